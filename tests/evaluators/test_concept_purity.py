import json

import pytest
import torch
from repeated import check_repeats

from sae_lightning.code import Code
from sae_lightning.datamodules import ClipImages
from sae_lightning.evaluators import ConceptPurity
from sae_lightning.images import ClipEmbedding, ImageFolder
from sae_lightning.interpretation.latents_on_images import LatentsOnImages
from sae_lightning.members import Member
from sae_lightning.panel import SanityPanel
from sae_lightning.saes import Isotropic, SAEModule, TopK
from sae_lightning.saes.step import Step

SETTINGS = {"n_latents": 8, "n_top": 4, "n_images": 30}
D_SAE = 24
TRAINED = Member("trained", 0)


@pytest.fixture(scope="module")
def clip_images(tiny_clip, image_folder):
    """60 images of three colours, half of them held out."""
    return ClipImages(
        tiny_clip, "visual.transformer.resblocks.0", ImageFolder(image_folder, heldout_every=2), batch_size=64,
        train_samples=640, val_samples=512, buffer_samples=512, images_per_forward=4, n_workers=1,
    )  # fmt: skip


@pytest.fixture
def sae_panel(clip_images):
    isotropic = {"frozen_decoder": Isotropic()}  # a start without data
    return SanityPanel(clip_images.d_in, sae=lambda d_in: TopK(d_in, k=4, d_sae=D_SAE), inits=isotropic)


class Planted(TopK):
    """Latents 0 to 2 fire on a class of images each, 3 on all, 4 on three images, 5 on none."""

    def __init__(self, d_in, look):
        super().__init__(d_in, k=4, d_sae=6)
        self.look = look

    def encode(self, x):
        numbers = self.look(x)
        label = numbers // 20
        dense = torch.nn.functional.one_hot(label, 3).float() * (1 + numbers[:, None] / 100)
        rarely = (numbers % 20 == 0).float()[:, None]
        return Code.from_dense(torch.cat([dense, 1 + dense[:, :1] * 0, rarely, rarely * 0], 1))


class Members(SAEModule):
    def __init__(self, **members):
        super().__init__()
        self._members = members

    @property
    def members(self):
        return {Member(name, 0): sae for name, sae in self._members.items()}

    def test_step(self, batch, batch_idx):
        return self.validation_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        return {member: Step(batch, sae.encode(batch), batch, batch) for member, sae in self.members.items()}


@pytest.fixture
def planted(clip_images):
    """Knows of an activation in which image it is."""
    numbers = clip_images.images.numbers("heldout")
    inputs = clip_images.inputs(numbers[:, None])
    activations, mask = clip_images.source.capture(inputs)
    known, of = activations[mask], numbers.repeat_interleave(clip_images.positions)

    def look(x):
        return of[torch.cdist(x, known).argmin(1)]

    return Members(trained=Planted(clip_images.d_in, look))


def evaluate(trainer, module, data, **settings):
    evaluator = ConceptPurity(**(SETTINGS | settings))
    run = trainer(evaluator)
    run.validate(module, data, verbose=False)
    return evaluator.measured, {name: float(value) for name, value in run.callback_metrics.items()}


def test_planted_latents_get_the_score_that_they_deserve(trainer, planted, clip_images):
    measured, logged = evaluate(trainer, planted, clip_images)
    items = measured["concept_purity"].items
    purity = items.numerators[TRAINED]
    assert len(purity) == 4, "a latent that fires on three images has no four, and one that never fires is not drawn"
    assert purity[:3].tolist() == [1, 1, 1]
    assert purity[3] < 1
    entropy = measured["class_entropy"].items.numerators[TRAINED]
    assert entropy[:3].tolist() == [0, 0, 0]
    assert entropy[3] > 0
    assert logged["val/concept_purity/trained/0"] == pytest.approx(float(purity.mean()))
    assert logged["val/concept_eligible_fraction/trained/0"] == pytest.approx(5 / 6)
    assert logged["val/concept_scored_fraction/trained/0"] == pytest.approx(4 / 5)
    assert 0 < logged["val/concept_median_frequency/trained/0"] < 0.6
    assert logged["val/top_similarity/trained/0"] > 0.2, "images of one colour are alike"
    assert abs(logged["val/concept_purity/floor"]) < 0.05
    assert 0.5 < logged["val/class_entropy/floor"] < 1
    assert logged["val/top_similarity/floor"] == 0
    assert not items.paired


def test_of_frequent_latents_none_is_drawn_above_the_limit(trainer, planted, clip_images):
    measured, logged = evaluate(trainer, planted, clip_images, max_frequency=0.6)
    assert logged["val/concept_eligible_fraction/trained/0"] == pytest.approx(4 / 6)
    assert logged["val/concept_purity/trained/0"] == 1
    with pytest.warns(
        UserWarning, match=r"concept_purity is withheld \(nan\) for trained/0 .* no sampled latent fires"
    ):
        _, logged = evaluate(trainer, planted, clip_images, max_frequency=1e-6)
    assert logged["val/concept_eligible_fraction/trained/0"] == 0
    assert torch.isnan(torch.tensor(logged["val/concept_purity/trained/0"]))
    assert logged["val/concept_purity/neurons/0"] > 0


def test_members_and_references_of_a_panel(trainer, sae_panel, clip_images):
    evaluator = ConceptPurity(**SETTINGS)
    run = trainer(evaluator)
    run.fit(sae_panel, clip_images)
    names = ("trained", "frozen_decoder", "soft_frozen_decoder", "frozen_encoder")
    members = {Member(name, 0) for name in names}
    for metric in ("concept_purity", "class_entropy", "top_similarity"):
        scores = evaluator.measured[metric]
        assert set(scores.members) == members | {Member("neurons", 0), Member("random_directions", 0)}
        assert scores.metric.better == ("lower" if metric == "class_entropy" else "higher")
        for member, value in scores.members.items():
            numerators, denominators = (of[member] for of in (scores.items.numerators, scores.items.denominators))
            assert numerators.sum() / denominators.sum() == pytest.approx(value)
    assert set(evaluator.measured["concept_purity_matched"].members) == members
    assert run.callback_metrics["val/concept_purity/neurons/0"] > run.callback_metrics["val/concept_purity/floor"], (
        "even a random model knows colours"
    )


def test_the_images_are_those_that_the_dense_latents_name(trainer, sae_panel, clip_images, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "sae_lightning.evaluators.concept_purity.Concepts.score",
        lambda self, sets: (sets[:, 0].double(), *[sets[:, 0].double() * 0] * 2),
    )
    evaluator = ConceptPurity(**SETTINGS, max_frequency=0.9)
    evaluator._concept_scores = lambda concepts, sets, rates: seen.update(sets) or ()
    concepts = "sae_lightning.evaluators.concept_purity.Concepts.__init__"
    monkeypatch.setattr(concepts, lambda self, *args: None)
    run = trainer(evaluator)
    run.fit(sae_panel, clip_images)
    numbers = clip_images.first_rows("heldout", 30 * clip_images.positions)
    activations, mask = clip_images.source.capture(clip_images.inputs(numbers))
    sae = sae_panel.members[TRAINED].eval()
    dense = sae.encode(activations[mask]).to_dense().view(len(numbers), -1, D_SAE).amax(1)
    fires = (dense != 0).sum(0) >= 4
    everything = {tuple(dense[:, i].argsort(descending=True, stable=True)[:4].tolist()) for i in fires.nonzero()[:, 0]}
    assert len(seen[TRAINED]) > 2
    assert {tuple(of) for of in seen[TRAINED].tolist()} <= everything


def test_it_draws_nothing_from_the_global_random_state(trainer, sae_panel, clip_images):
    clip_images.setup("validate")
    run = trainer(ConceptPurity(**SETTINGS), num_sanity_val_steps=0)
    state = torch.get_rng_state()
    run.validate(sae_panel, clip_images, verbose=False)
    assert torch.equal(torch.get_rng_state(), state)


def test_images_of_which_nothing_is_known_have_a_similarity(trainer, sae_panel, clip_images, monkeypatch):
    monkeypatch.setattr(clip_images.images, "values", {})
    measured, _ = evaluate(trainer, sae_panel, clip_images)
    assert "top_similarity" in measured
    assert not {"concept_purity", "class_entropy"} & set(measured)


def test_bad_arguments(trainer, sae_panel, clip_images, tiny_clip):
    for settings in ({"n_top": 1}, {"n_top": 20, "n_images": 30}):
        with pytest.raises(
            ValueError, match="(n_top=1: expected a whole number, 2 or more|n_images=.*: expected .*twice as many)"
        ):
            ConceptPurity(**settings)
    with pytest.raises(ValueError, match="n_latents=0: expected a whole number, 1 or more"):
        ConceptPurity(n_latents=0)
    for share in (0.0, 1.5):
        with pytest.raises(ValueError, match=f"max_frequency={share}: expected a number above 0 and up to 1"):
            ConceptPurity(max_frequency=share)
    with pytest.raises(ValueError, match="n_top=16: expected at most half of the 30 held-out images"):
        trainer(ConceptPurity(n_top=16)).validate(sae_panel, clip_images, verbose=False)
    with pytest.raises(ValueError, match="has the weights of the model whose activations the SAE reads"):
        trainer(ConceptPurity(ClipEmbedding(tiny_clip))).validate(sae_panel, clip_images, verbose=False)


def test_data_without_images_are_refused(trainer, sae, data):
    with pytest.raises(ValueError, match="ConceptPurity needs a model that reads images, and data=Activations has"):
        trainer(ConceptPurity()).validate(sae, data, verbose=False)


def test_from_the_command_line(tiny_clip, image_folder, tmp_path, monkeypatch):
    from sae_lightning.cli import main

    monkeypatch.chdir(tmp_path)
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1", "--trainer.accelerator=cpu"]
    data = {
        "model": tiny_clip, "hook": "visual.transformer.resblocks.0", "batch_size": 64, "train_samples": 640,
        "val_samples": 256, "buffer_samples": 512, "images_per_forward": 4, "n_workers": 1,
        "images": {"class_path": "ImageFolder", "init_args": {"folder": image_folder, "heldout_every": 2}},
    }  # fmt: skip
    evaluators = [
        {"class_path": "ConceptPurity", "init_args": {**SETTINGS, "embedding": {"class_path": "PixelEmbedding"}}},
        {"class_path": "LatentImages", "init_args": {"latents": [0, 3], "n_images": 20}},
    ]
    main([
        "fit", "--model=TopK", "--model.k=4", "--model.d_sae=24", "--data=ClipImages", *quiet,
        *(f"--data.{name}={json.dumps(value) if isinstance(value, dict) else value}" for name, value in data.items()),
        f"--trainer.callbacks={json.dumps(evaluators)}",
    ])  # fmt: skip
    (run,) = (tmp_path / "lightning_logs").glob("*/version_0")
    line = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["metrics"]["concept_purity"]["trained"]["0"] is not None
    assert line["about"]["top_similarity"]["better"] == "higher"
    assert (run / "pictures" / "trained-0.png").is_file()


def test_repeats_draw_other_latents_and_show_the_images_once(trainer, sae_panel, clip_images, monkeypatch):
    few = {"n_latents": 5, "max_frequency": 0.9}
    trainer().fit(sae_panel, clip_images)
    once, _ = evaluate(trainer, sae_panel, clip_images, **few)
    passes = []
    strongest = LatentsOnImages.strongest
    monkeypatch.setattr(LatentsOnImages, "strongest", lambda self, n: passes.append(n) or strongest(self, n))
    repeated, _ = evaluate(trainer, sae_panel, clip_images, **few, n_repeats=3)
    assert passes == [4]
    assert {"concept_purity", "top_similarity"} <= check_repeats(once, repeated, 3)
    names = repeated["concept_purity"].items.names[TRAINED]
    assert len(set(names)) == len(names) > len(once["concept_purity"].items.names[TRAINED])
