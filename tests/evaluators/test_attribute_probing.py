import pytest
import torch
import toy_clip
from repeated import check_repeats
from toy_clip import D_IN, ToyClipData, ToyImages, planted

from sae_lightning.datamodules.labelled_images import LabelledImages
from sae_lightning.evaluators import AttributeProbing
from sae_lightning.members import Member
from sae_lightning.probing.prepared_images import PreparedImages
from sae_lightning.saes import TopK

SMALL = {"train_images": 60, "test_images": 60}


def evaluate(trainer, members, data=None, **settings):
    return toy_clip.evaluate(trainer, AttributeProbing(**SMALL | settings), members, data)


def test_a_latent_for_each_value_tells_it_and_a_dead_sae_nothing(trainer):
    members = {"aligned/0": planted(torch.eye(D_IN), k=2), "dead/0": planted(torch.eye(D_IN), k=2, b_enc=-9.0)}
    measured, logged = evaluate(trainer, members)
    for k in (1, 5):
        for score in ("accuracy", "auroc"):
            found = [logged[f"val/probe_{score}_k{k}/{member}"] for member in ("aligned/0", "dense_probe/0", "dead/0")]
            assert found == pytest.approx([1, 1, 0.5])
    names = ("aligned", "dead", "dense_probe", "top_dimensions", "random_directions")
    assert set(measured["probe_accuracy_k1"].members) == {Member(name, 0) for name in names}
    assert logged["val/probe_reconstruction_accuracy/aligned/0"] == pytest.approx(1)
    assert 0.3 < logged["val/probe_accuracy_k1/floor"] < 0.7
    items = measured["probe_accuracy_k1"].items
    assert len(items.numerators[Member("aligned", 0)]) <= 90
    dead = Member("dead", 0)
    value = items.numerators[dead].sum() / items.denominators[dead].sum()
    assert float(value) == pytest.approx(measured["probe_accuracy_k1"].members[dead])


def test_what_stands_beside_a_crosscoder_has_the_scales_of_its_parts(trainer):
    """Where the second part, which shows the shape, is scaled down, the best latent and dimension are of the first."""
    crosscoder = TopK(D_IN, k=2, d_sae=D_IN, crosscoder=True, widths={"colour": 3, "shape": 3})
    scales = torch.tensor([1.0, 1, 1, 1e-3, 1e-3, 1e-3])
    crosscoder.load_state_dict(planted(torch.eye(D_IN), k=2).state_dict() | {"input_scale": scales})
    measured, _ = evaluate(trainer, {"trained/0": crosscoder}, ks=(1,))
    for name in ("trained", "top_dimensions"):
        assert 0.65 < measured["probe_accuracy_k1"].members[Member(name, 0)] < 0.85, name
    assert measured["probe_accuracy_k1"].members[Member("dense_probe", 0)] == pytest.approx(1)


def test_problems_are_values_among_the_images_that_the_attribute_applies_to():
    images = ToyImages()
    task = PreparedImages(LabelledImages("x", ToyClipData(images=images)), 60, 60)
    assert len(task.problems) == len(task.controls) == 6
    train, heldout = (set(images.numbers(split).tolist()) for split in ("train", "heldout"))
    for i, problem in enumerate(task.problems):
        name, value = ("colour", i) if i < 3 else ("shape", i - 3)
        for of_set, numbers in (("train", train), ("test", heldout)):
            asked, positive = task.numbers[problem.rows[of_set]], problem.positive[of_set]
            assert set(asked.tolist()) <= numbers
            labels = images.labels(name)[asked]
            assert (labels >= 0).all()
            assert ((labels == value).numpy() == positive).all()
            assert positive.mean() == 0.5
    tokens = task.capture()
    assert tokens.starts.tolist() == list(range(0, 2 * len(task.numbers) + 1, 2))  # two positions of three count
    assert tokens.activations.shape == (2 * len(task.numbers), D_IN)


class OneDamaged(ToyImages):
    def image(self, number):
        if number == 7:
            raise OSError("damaged")
        return super().image(number)


def test_an_image_that_cannot_be_decoded_is_left_out():
    with pytest.warns(UserWarning, match="skipped an image that cannot be decoded, 7"):
        task = PreparedImages(LabelledImages("x", ToyClipData(images=OneDamaged())), 90, 90)
    assert 7 not in task.numbers
    assert len(task.capture().starts) == len(task.numbers) + 1 == 180


def test_mistakes(trainer):
    sae = {"trained/0": planted(torch.eye(D_IN), k=2)}
    with pytest.raises(ValueError, match="AttributeProbing needs the image tower .* data=ToyClipData has none"):
        evaluate(trainer, sae, ToyClipData(reads_images=False))
    with pytest.raises(ValueError, match="AttributeProbing: ks=.7.: expected at most the number of latents, 6"):
        evaluate(trainer, sae, ks=(7,))
    with pytest.raises(ValueError, match="train_images=5: expected a whole number, 20 or more"):
        evaluate(trainer, sae, train_images=5)
    images = ToyImages()
    images.labels = lambda name: torch.where(torch.arange(180) % 2 == 0, torch.arange(180) // 2 % 3, -1)
    with pytest.raises(ValueError, match="nothing is known of the 90 train images"):
        evaluate(trainer, sae, ToyClipData(images=images))


def test_repeats_draw_other_images_and_are_paired(trainer):
    members = {
        "mixed/0": planted(torch.ones(6, D_IN) - torch.eye(D_IN) / 2, k=2),
        "aligned/0": planted(torch.eye(D_IN), k=2),
    }
    once, _ = evaluate(trainer, members)
    data = ToyClipData()
    repeated, _ = evaluate(trainer, members, data, n_repeats=3)
    assert check_repeats(once, repeated, 3)
    names = [repeated["probe_accuracy_k1"].items.names[Member(name, 0)] for name in ("mixed", "aligned")]
    assert names[0] == names[1]
    assert len(set(names[0])) == len(names[0]) <= 90, "an image of several repeats is one item"


def test_floors_are_those_of_each_sae_and_reference_on_labels_that_say_nothing(trainer):
    members = {"aligned/0": planted(torch.eye(D_IN), k=2), "dead/0": planted(torch.eye(D_IN), k=2, b_enc=-9.0)}
    measured, logged = evaluate(trainer, members)
    for name in ("probe_accuracy_k5", "probe_reconstruction_accuracy"):
        floors = measured[name].member_floors
        assert set(floors) == set(measured[name].members)
        assert floors[Member("dead", 0)] == pytest.approx(0.5)
        of_saes = [floors[Member(sae, 0)] for sae in ("aligned", "dead")]
        assert logged[f"val/{name}/floor"] == pytest.approx(sum(of_saes) / 2), "references do not count"
        assert len(set(floors.values())) > 1
