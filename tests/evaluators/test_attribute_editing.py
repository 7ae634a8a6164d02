import pytest
import torch
import toy_clip
from repeated import check_repeats
from toy_clip import D_IN, ToyClipData, ToyImages, planted

from sae_lightning.evaluators import AttributeEditing
from sae_lightning.members import Member

SETTINGS = {"n_images": 90, "n_train_pairs": 32, "n_test_pairs": 30, "n_epochs": 4}


def evaluate(trainer, members, data=None, **settings):
    return toy_clip.evaluate(trainer, AttributeEditing(**SETTINGS | settings), members, data)


def aligned():
    """A latent for each value of each attribute."""
    return planted(torch.eye(D_IN), k=2)


def mixing():
    """A latent for each combination of values."""
    return planted(torch.stack([torch.eye(6)[c] + torch.eye(6)[3 + s] for c in range(3) for s in range(3)]), k=1)


def values_of(logged, member):
    return [logged[f"val/attribute_{kind}/{member}"] for kind in ("cause", "isolation", "score")]


def test_latents_of_one_attribute_cause_and_isolate_and_mixed_ones_cannot(trainer):
    measured, logged = evaluate(trainer, {"aligned/0": aligned(), "mixing/0": mixing()})
    assert values_of(logged, "aligned/0") == [1, 1, 1]
    cause, isolation, score = values_of(logged, "mixing/0")
    assert cause + isolation == pytest.approx(2 * score)
    assert score <= 0.6
    assert values_of(logged, "floor") == [0, 1, 0.5]
    assert values_of(logged, "full_swap/0") == [1, 0, 0.5]
    assert values_of(logged, "neurons/0") == [1, 1, 1]
    assert values_of(logged, "random_rotation/0")[2] < 1
    assert "val/attribute_score/pca/0" in logged
    of_each = [logged[f"val/attribute_score_{name}/mixing/0"] for name in ("colour", "shape")]
    assert sum(of_each) / 2 == pytest.approx(score)
    for name, scores in measured.items():
        assert (scores.metric.better == "higher") == (
            name in {"attribute_cause", "attribute_isolation", "attribute_score"}
        )
        mixing_sae = Member("mixing", 0)
        numerators, denominators = (of[mixing_sae] for of in (scores.items.numerators, scores.items.denominators))
        assert float(numerators.sum() / denominators.sum()) == pytest.approx(scores.members[mixing_sae])


def test_pairs_are_of_images_that_the_model_knows_and_that_differ(trainer):
    evaluator, data = AttributeEditing(**SETTINGS), ToyClipData()
    toy_clip.evaluate(trainer, evaluator, {"early/aligned/0": aligned(), "late/aligned/0": aligned()}, data)
    assert set(data.source.hooks) == {"early", "late"}
    for split, numbers, of in zip(
        ("train", "heldout"),
        [known.numbers for known in evaluator._known[0]],
        (evaluator._swaps[0].train, evaluator._swaps[0].test),
        strict=True,
    ):
        assert set(numbers.tolist()) <= set(data.images.numbers(split).tolist())
        for attribute, swaps in of.items():
            assert swaps.base.shape == swaps.source.shape == (2 * swaps.n_cause, 2)  # positions that count
            assert torch.equal(swaps.base[:, 1], swaps.base[:, 0] + 1)
            base, source = (numbers[rows[:, 0] // 2] for rows in (swaps.base, swaps.source))
            assert [question.number for question in swaps.questions] == base.tolist()
            asked = [data.images.labels(name) for name in ("colour", "shape")]
            mine = data.images.labels(attribute)
            assert (mine[base] != mine[source]).all()
            for i, question in enumerate(swaps.questions):
                labels = asked[question.attribute]
                assert labels[base[i]] != labels[source[i]]
                assert question.label == int(labels[source[i] if i < swaps.n_cause else base[i]])


def test_positions_that_do_not_count_are_left_alone(trainer):
    data, seen = ToyClipData(), []
    replace = data.source.replace

    def watched(inputs, edit, hook=""):
        activations = data.source.activations(inputs)
        edited = edit(activations)
        seen.append(bool((edited[~inputs.mask] == activations[~inputs.mask]).all()))
        return replace(inputs, edit, hook)

    data.source.replace = watched
    evaluate(trainer, {"aligned/0": aligned()}, data)
    assert all(seen)


class Mislabelled(ToyImages):
    """Shows another shape than it says."""

    def labels(self, attribute):
        labels = super().labels(attribute)
        return torch.where(labels >= 0, (labels + 1) % 3, -1) if attribute == "shape" else labels

    def image(self, number):
        return ToyImages().image(number)


def test_mistakes(trainer, data):
    sae = {"trained/0": aligned()}
    with pytest.raises(ValueError, match="AttributeEditing needs the image tower .* data=Activations has none"):
        evaluate(trainer, sae, data)
    with pytest.raises(ValueError, match="AttributeEditing needs the image tower .* data=ToyClipData has none"):
        evaluate(trainer, sae, ToyClipData(reads_images=False))
    with pytest.raises(ValueError, match="isolation needs two attributes or more"):
        evaluate(trainer, sae, attributes=["colour"])
    with pytest.raises(ValueError, match=r"attributes: size is none of these images; expected some of \['colour'"):
        evaluate(trainer, sae, attributes=["colour", "size"])
    with pytest.raises(ValueError, match="answers 0 of 81 train images correctly about shape, and 16 are needed"):
        evaluate(trainer, sae, ToyClipData(images=Mislabelled()))
    apart = ToyImages()  # each image has one of the two attributes
    apart.labels = lambda name: torch.where(torch.arange(180) % 4 // 2 == (name == "shape"), labels[name], -1)
    labels, apart.image = {name: ToyImages().labels(name) for name in apart.values}, ToyImages().image
    with pytest.raises(ValueError, match="attributes: no train image has colour and another one"):
        evaluate(trainer, sae, ToyClipData(images=apart))
    for settings, message in (
        ({"n_images": 0}, "n_images=0"),
        ({"batch_size": 1}, "batch_size=1: expected a whole number, 2 or"),
    ):
        with pytest.raises(ValueError, match=message):
            AttributeEditing(**settings)


def test_repeats_draw_other_images_and_pairs(trainer):
    settings = {"n_images": 40, "n_train_pairs": 16, "n_test_pairs": 16, "n_epochs": 1}
    members = {"mixing/0": mixing(), "aligned/0": aligned()}
    once, _ = evaluate(trainer, members, **settings)
    repeated, _ = evaluate(trainer, members, **settings, n_repeats=2)
    assert "attribute_score" in check_repeats(once, repeated, 2)
