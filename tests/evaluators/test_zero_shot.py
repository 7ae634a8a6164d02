import pytest
import torch
import toy_clip
from repeated import check_repeats
from toy_clip import D_IN, ToyClipData, ToyImages, planted

from sae_lightning.datamodules import ClipImages
from sae_lightning.evaluators import LossRecovered, SparseProbing, ZeroShotRecovered
from sae_lightning.images import ImageFolder
from sae_lightning.members import Member
from sae_lightning.saes import TopK


def evaluate(trainer, members, data=None, **settings):
    return toy_clip.evaluate(trainer, ZeroShotRecovered(**settings), members, data)


def colours_alone():
    """Knows no shape."""
    return planted(torch.eye(D_IN)[:3], k=1)


def dead():
    return planted(torch.eye(D_IN), k=2, b_enc=-9.0)


def test_what_an_sae_loses_is_not_recovered(trainer):
    members = {"all/0": planted(torch.eye(D_IN), k=2), "colours/0": colours_alone(), "dead/0": dead()}
    measured, logged = evaluate(trainer, members)
    values = {
        "accuracy": (1, 2 / 3, 1 / 3),
        "accuracy_colour": (1, 1, 1 / 3),
        "accuracy_shape": (1, 1 / 3, 1 / 3),
        "recovered_mean": (1, 1 / 2, 0),
        "recovered_zero": (1, 1 / 2, 0),
        "clean": (1, 1, 1),
        "mean": (1 / 3, 1 / 3, 1 / 3),
        "zero": (1 / 3, 1 / 3, 1 / 3),
    }
    for name, expected in values.items():
        found = [logged[f"val/zero_shot_{name}/{member}"] for member in members]
        assert found == pytest.approx(expected, abs=1e-6), name
    assert logged["val/zero_shot_accuracy/floor"] == pytest.approx(1 / 3)
    assert logged["val/zero_shot_accuracy/chance/0"] == pytest.approx(1 / 3)
    assert logged["val/zero_shot_ce_recovered_mean/all/0"] == pytest.approx(1)
    assert 0 < logged["val/zero_shot_ce_recovered_zero/colours/0"] < 1
    assert logged["val/zero_shot_ce_recovered_zero/dead/0"] == pytest.approx(0)
    assert logged["val/zero_shot_recovered_mean/floor"] == logged["val/zero_shot_ce_recovered_mean/floor"] == 0
    assert set(measured["zero_shot_recovered_mean"].members) == {Member.parse(member) for member in members}
    better = {name for name, scores in measured.items() if scores.metric.better}
    assert better == {"zero_shot_recovered_mean", "zero_shot_ce_recovered_mean"}


def test_items_are_images_and_make_up_the_metrics(trainer):
    measured, _ = evaluate(trainer, {"colours/0": colours_alone()}, n_images=60)
    with_items = {name for name, scores in measured.items() if scores.items}
    assert len(with_items) == 7
    for name in with_items:
        scores = measured[name]
        colours = Member("colours", 0)
        numerators, denominators = (of[colours] for of in (scores.items.numerators, scores.items.denominators))
        assert 60 <= len(numerators) <= 75  # a colour has the first 60, a shape 60 of which most are among them
        assert float(numerators.sum() / denominators.sum()) == pytest.approx(float(scores.members[colours]))


def test_edits_reach_the_positions_that_count(trainer):
    rows = []

    class Watched(TopK):
        def forward(self, x):
            rows.append(x)
            return x

    evaluate(trainer, {"watched/0": Watched(D_IN, k=1, d_sae=8)})
    assert torch.cat(rows).shape == (90 * 2, D_IN)  # not the class token, which is zero
    assert (torch.cat(rows).sum(1) > 0).all()


def test_on_the_text_tower_captions_are_read_through_the_sae(trainer):
    data = ToyClipData(reads_images=False)
    _, logged = evaluate(
        trainer, {"all/0": planted(torch.eye(D_IN), k=2), "colours/0": colours_alone()}, data, images=ToyImages()
    )
    for name in ("accuracy", "clean"):
        assert logged[f"val/zero_shot_{name}/all/0"] == pytest.approx(1)
    assert logged["val/zero_shot_accuracy_shape/colours/0"] == pytest.approx(1 / 3)
    assert logged["val/zero_shot_recovered_mean/colours/0"] == pytest.approx(1 / 2)


def test_parts_are_edited_where_they_are_read_and_nulls_left_out(trainer):
    class WithNull(ToyClipData):
        null_parts = ("gaussian",)

    data = WithNull()
    members = {"early/all/0": planted(torch.eye(D_IN), k=2), "late/dead/0": dead(), "gaussian/all/0": dead()}
    measured, logged = evaluate(trainer, members, data)
    assert set(data.source.hooks) == {"early", "late"}
    assert logged["val/zero_shot_recovered_mean@early/all/0"] == 1
    assert logged["val/zero_shot_recovered_mean@late/dead/0"] == 0
    assert logged["val/zero_shot_accuracy@late/chance/0"] == pytest.approx(1 / 3)
    assert not any("gaussian" in name for name in logged)


def test_a_ratio_over_a_small_gap_is_withheld(trainer):
    with pytest.warns(UserWarning, match=r"zero_shot_recovered_zero is withheld \(nan\).* less than the 0.9 asked for"):
        _, logged = evaluate(trainer, {"dead/0": dead()}, min_gap_accuracy=0.9)
    assert logged["val/zero_shot_recovered_mean/dead/0"] != logged["val/zero_shot_recovered_mean/dead/0"]
    assert logged["val/zero_shot_ce_recovered_zero/dead/0"] == pytest.approx(0)


def test_mistakes(trainer, data, tmp_path):
    sae = {"trained/0": dead()}
    with pytest.raises(ValueError, match="ZeroShotRecovered needs a CLIP model, and data=Activations has none"):
        evaluate(trainer, sae, data)
    with pytest.raises(ValueError, match="has captions and no images; give ZeroShotRecovered its images"):
        evaluate(trainer, sae, ToyClipData(reads_images=False))
    nothing = ToyImages()
    nothing.values = {}
    with pytest.raises(ValueError, match="images=ToyImages has no attribute with two values or more"):
        evaluate(trainer, sae, images=nothing)
    unlabelled = ToyImages()
    unlabelled.labels = lambda attribute: torch.full((180,), -1)
    with pytest.raises(ValueError, match="nothing is known of the 90 heldout images; expected some with colour or"):
        evaluate(trainer, sae, images=unlabelled)
    for settings in ({"n_images": 0}, {"min_gap_accuracy": 0.0}, {"min_gap_nats": -1.0}):
        with pytest.raises(ValueError, match="expected"):
            ZeroShotRecovered(**settings)


def test_a_real_clip_model_and_evaluators_of_text(trainer, tiny_clip, image_folder):
    sizes = {"batch_size": 16, "train_samples": 64, "val_samples": 16, "loss_samples": 64, "buffer_samples": 600}
    data = ClipImages(
        tiny_clip,
        "visual.transformer.resblocks.0",
        ImageFolder(image_folder, heldout_every=3),
        images_per_forward=8,
        **sizes,
    )
    sae = TopK(32, k=4, d_sae=64)
    sae.initialise(0)
    evaluator = ZeroShotRecovered()
    with pytest.warns(UserWarning, match="withheld"):  # it was never trained
        trainer(evaluator).validate(sae, data, verbose=False)
    assert evaluator.measured["zero_shot_accuracy_class"].members[Member("chance", 0)] == pytest.approx(1 / 3)
    assert len(evaluator.measured["zero_shot_accuracy"].items.numerators[Member("trained", 0)]) == 20
    for of_text in (LossRecovered(), SparseProbing()):
        with pytest.raises(ValueError, match="needs a language model.* and data=ClipImages has none"):
            trainer(of_text).validate(sae, data, verbose=False)


def test_repeats_draw_other_images(trainer):
    members = {"part/0": planted(torch.eye(D_IN)[:4], k=2), "dead/0": dead()}
    once, _ = evaluate(trainer, members, n_images=30)
    repeated, _ = evaluate(trainer, members, n_images=30, n_repeats=3)
    assert "zero_shot_accuracy" in check_repeats(once, repeated, 3)
    items = repeated["zero_shot_accuracy"].items
    assert 30 < len(items.numerators[Member("part", 0)]) <= 90
