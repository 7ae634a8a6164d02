import pytest
import torch
import toy_clip
import yaml
from repeated import check_repeats
from torch.nn.functional import normalize
from toy_clip import D_IN, Members, ToyClip, ToyClipData, ToyImages, planted

from sae_lightning.code import Code
from sae_lightning.datamodules import DecoderDirections
from sae_lightning.datamodules.labelled_images import LabelledImages
from sae_lightning.evaluators import MetaSteering, meta_steering
from sae_lightning.evaluators.steering import Steering, selectivity
from sae_lightning.members import Member
from sae_lightning.sources import RandomDirections

PURE = torch.eye(D_IN)
MIXED = normalize(torch.stack([PURE[c] + PURE[3 + s] for c in range(3) for s in range(3)]), dim=1)


class Parts(Members):
    def activations_for(self, member, activations):
        return activations[:, D_IN:] if member.part == "isotropic" else activations[:, :D_IN]


@pytest.fixture
def base(tmp_path, monkeypatch):
    """An SAE each of whose directions changes colour and shape, with a run around it."""
    monkeypatch.setattr(meta_steering, "_images_of", lambda run, part: ToyClipData())
    planted(MIXED, k=1).save(tmp_path / "run/saes/trained/0")
    (tmp_path / "run/config.yaml").touch()
    return str(tmp_path / "run/saes/trained/0")


def evaluate(trainer, members, data, **settings):
    return toy_clip.evaluate(trainer, MetaSteering(**{"n_images": 60} | settings), members, data)


def steering(images=None, n=60):
    labelled = LabelledImages("a test", ToyClipData(images=images))
    return Steering(labelled, labelled.numbers("heldout", n), "", n)


def test_each_direction_gets_the_strength_that_it_needs():
    lost, strength = steering().lost(torch.stack([PURE[0], MIXED[0], -PURE[0], torch.zeros(D_IN)]), 0.25)
    # A patch of colour c has x_c = 1, and a scene is told red as soon as more than 1 is added to x_red.
    expected = [[2 / 3, 0], [2 / 3, 2 / 3], [1 / 3, 0], [0, 0]]
    torch.testing.assert_close(lost, torch.tensor(expected).double(), atol=0.03, rtol=0)
    x = ToyClip().activations(next(ToyClipData().validation_inputs()))[:, 1:].flatten(0, 1)
    scale = float((x - x.mean(0)).square().sum(1).mean().sqrt())
    assert (strength[:3] * scale).tolist() == pytest.approx([1, 2**0.5, 1], rel=0.06)
    assert strength[3] == pytest.approx(8, rel=0.03)


def test_selectivity():
    usual = torch.tensor([0.5, 0.25, 0.25]).double()
    lost = torch.tensor([[0, 0.2, 0], [0.2, 0.1, 0.1], [0.1, 0.1, 0], [0, 0, 0]]).double()
    assert selectivity(lost, usual).tolist() == pytest.approx([1, 0, 1 / 3, 0])
    assert selectivity(lost[:2], torch.tensor([0, 1, 0]).double())[1] == pytest.approx(0.5)


def test_meta_latents_of_one_attribute_are_more_selective_than_mixed_latents(trainer, base):
    members = {"parts/0": planted(PURE, k=2), "whole/0": planted(MIXED, k=1)}
    measured, logged = evaluate(trainer, members, DecoderDirections([base], batch_size=9))
    of = {name: logged[f"val/steering_selectivity/{name}/0"] for name in ("parts", "whole", "latents")}
    assert of["parts"] == pytest.approx(1)
    assert of["whole"] == of["latents"] < 0.2
    assert logged["val/steering_gain/parts/0"] == pytest.approx(1 - of["latents"])
    assert logged["val/steering_gain/whole/0"] == 0
    random = logged["val/steering_selectivity/random_directions/0"]
    assert of["latents"] < random == logged["val/steering_selectivity/floor"]
    assert logged["val/steering_gain/floor"] == pytest.approx(random - of["latents"])
    assert "val/steering_selectivity/matched_directions/0" in logged
    assert logged["val/steering_effect/latents/0"] == pytest.approx(4 / 3, abs=0.03)
    assert logged["val/steering_strength/parts/0"] < logged["val/steering_strength/latents/0"]
    items = {name: scores.items for name, scores in measured.items() if scores.metric.better}
    assert items.keys() == {"steering_selectivity", "steering_gain"}
    assert len(items["steering_selectivity"].numerators[Member("parts", 0)]) == 6
    assert items["steering_gain"].paired
    assert len(items["steering_gain"].numerators[Member("parts", 0)]) == 9
    for metric, of_metric in items.items():
        for member, numerators in of_metric.numerators.items():
            assert numerators.mean() == pytest.approx(logged[f"val/{metric}/{member}"])


def test_nulls_and_latents_without_meta_latents(trainer, base, monkeypatch):
    monkeypatch.setattr(toy_clip, "Members", Parts)
    data = DecoderDirections([base], batch_size=9, nulls={"isotropic": RandomDirections()})
    silent = planted(PURE, k=2, b_enc=-0.6)
    silent.b_enc.data[0] = -2  # MIXED[:3] have one meta-latent instead of two, the other 6 both
    silent.b_enc.data[3:] = torch.tensor([-2, 0, 0])  # MIXED[0] has none
    members = {"trained/0": silent, "isotropic/trained/0": planted(PURE, k=6)}
    measured, logged = evaluate(trainer, members, data)
    gains = measured["steering_gain"].items.numerators[Member("trained", 0)]
    latents = measured["steering_selectivity"].items.numerators[Member("latents", 0)]
    assert gains[0] == 0
    assert gains[1:].tolist() == pytest.approx((1 - latents[1:]).tolist())
    null = {name: logged[f"val/steering_selectivity@isotropic/{name}"] for name in ("trained/0", "latents/0", "floor")}
    assert null["trained/0"] == pytest.approx(1)
    assert null["floor"] == logged["val/steering_selectivity/floor"]
    assert null["latents/0"] != logged["val/steering_selectivity/latents/0"]
    assert logged["val/steering_gain@isotropic/trained/0"] == pytest.approx(1 - null["latents/0"])


def test_the_gain_of_a_latent_is_that_of_its_own_meta_latents():
    code = Code.from_dense(torch.tensor([[0, 2.0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 1]]))  # meta-latents 1 and 3 of 4
    latents, trained = Member("latents", 0), Member("trained", 1)
    selective = {latents: torch.tensor([0.1, 0.2, 0.3]), trained: torch.tensor([0.4, 0.9])}
    scores = meta_steering._gain(selective, {trained: code}, torch.tensor(0.5), [4, 5, 6])
    assert scores.items.numerators[trained].tolist() == pytest.approx([0.65 - 0.1, 0, 0.9 - 0.3])
    assert scores.members[trained] == pytest.approx(1.15 / 3)
    assert scores.floor[""] == pytest.approx(0.3)


def test_dead_latents_are_not_drawn(trainer, base, tmp_path):
    sae = planted(torch.cat([MIXED, PURE]), k=1)
    sae.samples_since_fired[9:] = sae.dead_after_samples
    sae.save(tmp_path / "run/saes/other/0")
    data = DecoderDirections([str(tmp_path / "run/saes/other/0")], batch_size=9)
    assert data.dead.tolist() == [False] * 9 + [True] * 6
    for n, drawn in ((20, 9), (4, 4)):
        measured, logged = evaluate(trainer, {"parts/0": planted(PURE, k=2)}, data, n_latents=n)
        assert len(measured["steering_gain"].items.numerators[Member("parts", 0)]) == drawn
        assert logged["val/steering_selectivity/latents/0"] < 0.2


def save_run(folder, data, d_in=D_IN):
    """A folder as `sae fit` leaves it."""
    planted(torch.eye(D_IN), k=1).save(folder / "saes/trained/0")
    (folder / "config.yaml").write_text(yaml.safe_dump({"name": "base", "data": data, "trainer": {}}))
    return str(folder / "saes/trained/0")


def test_mistakes(trainer, data, base, tmp_path, tiny_clip, image_folder, monkeypatch):
    sae = {"trained/0": planted(PURE, k=2)}
    for settings, message in (
        ({"n_latents": 0}, "n_latents=0: expected a whole number, 1 or more"),
        ({"change": 0.5}, "change=0.5: expected a number above 0 and below 0.5"),
    ):
        with pytest.raises(ValueError, match=message):
            MetaSteering(**settings)
    directions = DecoderDirections([base], batch_size=9)
    with pytest.raises(ValueError, match="MetaSteering needs a meta-SAE, and data=Activations are not"):
        evaluate(trainer, sae, data)
    with pytest.raises(ValueError, match=r"attributes=\['colour'\]: expected two or more"):
        evaluate(trainer, sae, directions, attributes=["colour"])
    with pytest.raises(ValueError, match="the model answers 9 of 9 images correctly about colour, and 16 are needed"):
        evaluate(trainer, sae, directions, n_images=8)
    with pytest.raises(ValueError, match="no config.yaml in .*nowhere: .*; give it as run, or"):
        evaluate(trainer, sae, directions, run=str(tmp_path / "nowhere"))
    planted(MIXED, k=1).save(tmp_path / "other/saes/trained/0")
    with pytest.raises(ValueError, match="expected SAEs of one run and one hook"):
        evaluate(trainer, sae, DecoderDirections([base, str(tmp_path / "other/saes/trained/0")], batch_size=9))
    monkeypatch.undo()
    synthetic = {"class_path": "SyntheticDataModule", "init_args": {"d_in": 6, "n_features": 9}}
    synthetic["init_args"]["firing_probability"] = {"class_path": "ConstantProbability"}
    of_synthetic = DecoderDirections([save_run(tmp_path / "synthetic", synthetic)], batch_size=6)
    with pytest.raises(ValueError, match="the base in .*synthetic was not trained on ClipImages"):
        evaluate(trainer, sae, of_synthetic)


def test_the_model_and_the_images_of_the_run_are_found(trainer, base, tmp_path, tiny_clip, image_folder, monkeypatch):
    images = {"class_path": "ImageFolder", "init_args": {"folder": image_folder, "heldout_every": 4}}
    hooks = {"early": "visual.transformer.resblocks.0", "late": "visual.transformer.resblocks.1"}
    init_args = {"model": tiny_clip, "hook": hooks, "images": images, "buffer_samples": 10_000}
    run = {"class_path": "ClipImages", "init_args": init_args}
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump({"data": run}))
    monkeypatch.undo()
    folder = tmp_path / "run/saes/late/trained/0"
    planted(torch.eye(D_IN), k=1).save(folder)
    data, before = DecoderDirections([str(folder)], batch_size=6), torch.get_rng_state()
    with pytest.raises(ValueError, match="have d_in=early 32, late 32, and the decoder directions of .* 6: expected"):
        evaluate(trainer, {"trained/0": planted(PURE, k=2)}, data)
    assert torch.equal(torch.get_rng_state(), before)
    assert meta_steering._origin([folder], None) == (tmp_path / "run", "late")
    found = meta_steering._images_of(tmp_path / "run", "late")
    assert len(found.images) == 60
    run["init_args"]["nulls"] = {"gaussian": {"class_path": "GaussianMatched"}}
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump({"data": run}))
    with pytest.raises(ValueError, match="was trained on gaussian, a null version of the activations"):
        meta_steering._images_of(tmp_path / "run", "gaussian")


def test_images_that_the_model_misreads_are_left_out():
    class Mislabelled(ToyImages):
        """Of some images another shape is told than they show."""

        def labels(self, attribute):
            labels = super().labels(attribute)
            wrong = (torch.arange(self.n) < 40) & (labels >= 0) & (attribute == "shape")
            return torch.where(wrong, (labels + 1) % 3, labels)

        def image(self, number):
            return ToyImages().image(number)

    of_all, of_some = steering(n=90), steering(Mislabelled(), n=90)
    assert of_all.n_known.tolist() == [90, 81]
    assert of_some.n_known.tolist() == [90, 61]
    lost, strength = of_some.lost(PURE[[3]], 0.25)
    assert 0.25 < lost[0, 1] < 1
    assert lost[0, 0] == 0
    assert strength == of_all.lost(PURE[[3]], 0.25)[1]


def test_repeats_draw_other_latents_directions_and_images(trainer, base):
    members = {"parts/0": planted(PURE, k=2), "whole/0": planted(MIXED, k=1)}
    small = {"n_latents": 4, "n_images": 30}
    once, _ = evaluate(trainer, members, DecoderDirections([base], batch_size=9), **small)
    repeated, _ = evaluate(trainer, members, DecoderDirections([base], batch_size=9), **small, n_repeats=2)
    assert "steering_gain" in check_repeats(once, repeated, 2)
    items = repeated["steering_gain"].items
    assert 4 < len(items.numerators[Member("parts", 0)]) <= 8


def test_random_directions_are_judged_beside_the_others(trainer, base, monkeypatch):
    """Of two, one loses answers about colour alone, the other six of ten: 1, and 0.4 beside the first."""
    lost = torch.tensor([[0.25, 0.0], [0.15, 0.1]]).double()
    monkeypatch.setattr(Steering, "lost", lambda self, directions, change: (
        lost[torch.arange(len(directions)) % 2], torch.ones(len(directions)).double()
    ))  # fmt: skip
    measured, _ = evaluate(
        trainer, {"parts/0": planted(PURE, k=2)}, DecoderDirections([base], batch_size=9), n_latents=2
    )
    assert measured["steering_selectivity"].floor == pytest.approx((1 + 0.4) / 2)
    # What is usual, 0.8 and 0.2, judges the others.
    assert measured["steering_selectivity"].members[Member("latents", 0)] == pytest.approx((1 + 0.25) / 2)


def test_a_base_without_live_latents_is_refused(trainer, base, tmp_path):
    sae = planted(MIXED, k=1)
    sae.samples_since_fired[:] = sae.dead_after_samples
    sae.save(tmp_path / "run/saes/dead/0")
    data = DecoderDirections([str(tmp_path / "run/saes/dead/0")], batch_size=9)
    with pytest.raises(ValueError, match="MetaSteering: all 9 latents of the base are dead"):
        evaluate(trainer, {"parts/0": planted(PURE, k=2)}, data)
