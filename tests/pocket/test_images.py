"""Images of `PocketImages` show what their labels say, in parts that share nothing."""

import random
from itertools import combinations, islice

import numpy as np
import pytest
import torch
from scipy.ndimage import label
from scipy.stats import chi2_contingency

from sae_lightning.pocket import PocketCaptions, PocketImages, drawing
from sae_lightning.pocket.captions import PROMPTS, caption
from sae_lightning.pocket.images import N_DIGITS


@pytest.fixture(scope="module")
def images():
    return PocketImages(n_scenes=4000)


def pixels(images, number):
    return np.asarray(images.image(number)).astype(float)


def test_an_image_depends_on_its_number_alone(images):
    again = PocketImages(n_scenes=4000)
    backwards = [again.image(number).tobytes() for number in reversed(range(20))]
    assert [images.image(number).tobytes() for number in range(20)] == backwards[::-1]
    assert images.image(3).size == (64, 64)
    assert images.image(3).mode == "RGB"


def test_images_of_another_seed_are_others(images):
    other = PocketImages(n_scenes=4000, seed=1)
    seen = {images.image(number).tobytes() for number in range(300)}
    assert len(seen) == 300
    assert seen.isdisjoint(other.image(number).tobytes() for number in range(300))


def test_labels_render_nothing(monkeypatch):
    monkeypatch.setattr(drawing, "paint", None)
    assert all(len(PocketImages(100).labels(name)) == 1897 for name in PocketImages.values)


def test_every_value_is_equally_frequent_and_attributes_are_independent():
    images = PocketImages()
    scenes = images.labels("digit") < 0
    names = [name for name in images.values if name != "digit"]
    for name in names:
        counts = torch.bincount(images.labels(name)[scenes], minlength=len(images.values[name])).float()
        assert (counts / counts.mean() - 1).abs().max() < 0.06
    p_values = []
    for first, second in combinations(names, 2):
        table = np.zeros((len(images.values[first]), len(images.values[second])))
        np.add.at(table, (images.labels(first)[scenes].numpy(), images.labels(second)[scenes].numpy()), 1)
        p_values.append(chi2_contingency(table).pvalue)
    assert min(p_values) > 0.05 / len(p_values)


def test_digits_have_a_colour_and_a_background_and_nothing_else(images):
    digits = images.labels("digit") >= 0
    assert digits.sum() == N_DIGITS
    assert torch.bincount(images.labels("digit")[digits]).min() > 170
    for name in images.values:
        applies = images.labels(name) >= 0
        assert applies[digits].all() == (name in ("digit", "colour", "background"))
        assert applies[~digits].all() == (name != "digit")


def test_parts_share_no_digit_whatever_the_seed_and_number_of_scenes():
    scans = set()
    for n_scenes, seed, every in ((500, 0, 10), (3000, 7, 10), (500, 1, 30)):
        images = PocketImages(n_scenes, seed, every)
        names = {
            split: {images.name(number) for number in images.numbers(split).tolist()} for split in ("train", "heldout")
        }
        assert names["train"].isdisjoint(names["heldout"])
        assert len(names["train"] | names["heldout"]) == len(images)
        scans |= {int(name.split()[1]) for name in names["heldout"] if name.startswith("digit")}
    assert scans == set(range(0, N_DIGITS, 10))


def test_digits_and_scenes_are_mixed(images):
    digits = (images.labels("digit") >= 0).float()
    halves = digits[: len(images) // 2].mean(), digits[len(images) // 2 :].mean()
    assert abs(halves[0] - halves[1]) < 0.05


def scenes_of(images, n, **shown):
    matching = (number for number in range(len(images)) if shown.items() <= images.shown(number).items())
    return list(islice(matching, n))


@pytest.mark.parametrize("colour", PocketImages.values["colour"])
def test_objects_have_their_colour(images, colour):
    for number in scenes_of(images, 8, colour=colour, size="large"):
        nearest = np.abs(pixels(images, number)[..., None, :] - np.array(list(drawing.COLOURS.values()))).max(-1)
        shown = np.array(list(drawing.COLOURS))[nearest.argmin(-1)[nearest.min(-1) < 15]]
        assert len(shown) > 40
        assert (shown == colour).mean() > 0.9


@pytest.mark.parametrize("background", PocketImages.values["background"])
def test_borders_show_the_background(images, background):
    grey = {"white": (215, 256), "black": (0, 40), "striped": (80, 200), "dotted": (80, 200)}
    for number in scenes_of(images, 8, background=background, size="small", position="centre"):
        border = pixels(images, number)[:4].reshape(-1, 3)
        if background == "brown":
            assert (border[:, 0] > border[:, 2] + 40).all()
        else:
            assert (border.min(1) >= grey[background][0]).all()
            assert (border.max(1) < grey[background][1]).all()
            assert (border.std(0).max() > 20) == (background in ("striped", "dotted"))


def masks(n=12, **given):
    """Masks [n, 64, 64] of scenes with some attributes given and the others drawn."""
    rng, drawn = np.random.default_rng(0), []
    for _ in range(n):
        shown = {name: rng.choice(PocketImages.values[name]) for name in ("shape", "count", "size", "position")} | given
        drawn.append(
            np.asarray(drawing.scene_mask(shown["shape"], shown["count"], shown["size"], shown["position"], rng))
        )
    return np.stack(drawn).astype(float) / 255


@pytest.mark.parametrize("position", PocketImages.values["position"])
def test_objects_stand_in_their_place(position):
    for mask in masks(position=position, n=40):
        y, x = np.mgrid[:64, :64]
        middle = np.array([(x * mask).sum(), (y * mask).sum()]) / mask.sum() - 31.5
        side = np.array(drawing.POSITIONS[position])
        assert (middle[side != 0] * side[side != 0] > 6).all()
        assert np.abs(middle[side == 0]).max() < 4
        assert mask[[0, -1]].sum() + mask[:, [0, -1]].sum() == 0  # nothing is cut off


@pytest.mark.parametrize(("count", "n_objects"), [("one", 1), ("two", 2), ("three", 3)])
def test_objects_can_be_counted(count, n_objects):
    assert {label(mask > 0.95)[1] for mask in masks(count=count, n=40, shape="circle")} == {n_objects}


def test_large_objects_are_larger_than_small_ones():
    for shape in PocketImages.values["shape"]:
        small, large = (masks(shape=shape, count="one", size=size).sum((1, 2)) for size in ("small", "large"))
        assert large.min() > 1.5 * small.max()


def test_shapes_differ_by_how_much_of_their_circle_they_fill():
    large = {"count": "one", "size": "large"}
    area = {shape: masks(shape=shape, **large).sum((1, 2)).mean() / (np.pi * 10**2) for shape in drawing.SHAPES}
    expected = {"circle": 1.0, "ring": 0.7, "square": 0.64, "cross": 0.66, "triangle": 0.41, "star": 0.39}
    assert area == pytest.approx(expected, rel=0.15)


def test_captions_are_the_same_each_time_and_tell_the_truth(images):
    assert images.caption(5, 1) == PocketImages(4000).caption(5, 1)
    assert len({images.caption(5, turn) for turn in range(50)}) > 25
    plain = set(images.values["colour"]) | set(images.values["shape"]) | set(images.values["background"])
    mentioned = set()
    for number in range(500):
        words = {word.rstrip("s") if word != "crosses" else "cross" for word in images.caption(number).split()}
        words |= {"cross"} & set(images.caption(number).split())
        assert words & plain <= set(images.shown(number).values())
        mentioned |= words & plain
    assert mentioned == plain


def test_a_caption_mentions_the_attributes_that_it_lists():
    shown = {"shape": "ring", "colour": "red", "size": "large", "count": "two", "background": "brown"}
    rng = random.Random(0)
    for _ in range(500):
        text, mentioned = caption(shown, rng)
        for name, value in shown.items():
            assert (value in text.replace("rings", "ring").split()) == (name in mentioned), (text, mentioned)


def test_most_captions_are_about_one_or_two_attributes():
    rng, shown = random.Random(0), {name: values[0] for name, values in PocketImages.values.items() if name != "digit"}
    lengths = [len(caption(shown, rng)[1]) for _ in range(2000)]
    assert 0.45 < lengths.count(1) / 2000 < 0.55
    assert max(lengths) == 6


def test_prompts_ask_for_every_attribute():
    assert set(PROMPTS) == set(PocketImages.values) == set(PocketImages.prompts)
    assert all(prompt.count("{}") == 1 for prompts in PROMPTS.values() for prompt in prompts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"heldout_every": 1}, "heldout_every=1"), ({"n_scenes": -1}, "n_scenes=-1"), ({"seed": -1}, "seed=-1")],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        PocketImages(**arguments)
    with pytest.raises(ValueError, match=message):
        PocketCaptions(**arguments)
