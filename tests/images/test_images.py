"""Folders and datasets of images, and how they are read."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_tensor

from sae_lightning.images import HubImages, ImageFolder, ImageReader
from sae_lightning.images.reader import to_rgb


def test_folders_are_classes(image_folder):
    images = ImageFolder(image_folder, heldout_every=6)
    assert images.values == {"class": ["blue", "green", "red"]}
    assert images.prompts == {"class": ["a photo of a {}"]}
    for number in range(len(images)):
        assert images.values["class"][images.labels("class")[number]] == Path(images.name(number)).parent.name
    parts = [images.numbers(split) for split in ("train", "heldout")]
    assert torch.cat(parts).sort().values.tolist() == list(range(60))
    assert len(parts[1]) == 10


def test_images_in_the_folder_itself_have_no_class(tmp_path):
    for name in "ab":
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.PNG")
    images = ImageFolder(str(tmp_path))
    assert (len(images), images.values) == (2, {})


def test_a_table_gives_attributes(image_folder, tmp_path):
    paths = sorted(str(path.relative_to(image_folder)) for path in Path(image_folder).rglob("*.png"))
    with (tmp_path / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "hue", "place"])
        writer.writerows([path, Path(path).parent.name, "" if i % 2 else "left"] for i, path in enumerate(paths))
    images = ImageFolder(image_folder, str(tmp_path / "table.csv"), {"hue": ["something {}", "{}"]})
    assert images.values == {"hue": ["blue", "green", "red"], "place": ["left"]}
    assert images.labels("place")[:4].tolist() == [0, -1, 0, -1]
    assert images.prompts == {"hue": ["something {}", "{}"], "place": ["a photo of a {}"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"folder": "nowhere"}, "folder=nowhere: there is no such folder"),
        ({"folder": "empty"}, "it has 0 images, expected at least 2"),
        ({"heldout_every": 1}, "heldout_every=1: expected a whole number, 2 or more"),
        ({"prompts": {"size": ["{}"]}}, "size is no attribute of these images; expected class"),
        ({"prompts": {"class": ["no place"]}}, "expected captions with one {} in the place of the value"),
        ({"prompts": {"class": []}}, "expected captions with one {} in the place of the value"),
        ({"table": "nowhere.csv"}, "table=nowhere.csv: cannot be read"),
        ({"table": "bad.csv"}, "expected a column file and one for each attribute"),
        ({"table": "short.csv"}, r"59 of 60 images of .* are not in it, such as blue/1.png"),
    ],
)
def test_bad_arguments(image_folder, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.csv").write_text("path,hue\n")
    (tmp_path / "short.csv").write_text("file,hue\nblue/0.png,blue\n")
    with pytest.raises(ValueError, match=message):
        ImageFolder(**{"folder": image_folder, **arguments})


def test_a_dataset(image_folder):
    images = HubImages(image_folder, attributes=["label"], prompts={"label": ["a {} thing"]}, heldout_every=5)
    assert len(images) == 60
    assert images.values == {"label": ["blue", "green", "red"]}
    folder = ImageFolder(image_folder)
    for number in (0, 30, 59):
        assert Path(images.name(number)).parent.name == images.values["label"][images.labels("label")[number]]
        same = next(i for i in range(60) if folder.name(i) == images.name(number))
        assert np.array_equal(np.asarray(images.image(number)), np.asarray(folder.image(same)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"column": "photo"}, "it has no column photo; expected one of image, label"),
        ({"column": "label"}, "column=label: it holds .*, expected images"),
        ({"attributes": ["hue"]}, "it has no column hue"),
        ({"dataset": "no/such"}, "dataset=no/such, name=None, split=train: `datasets` cannot load it"),
    ],
)
def test_a_bad_dataset(image_folder, arguments, message, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)  # else it waits for a hub that may not be there
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=message):
        HubImages(**{"dataset": image_folder, **arguments})


def test_every_kind_of_image_becomes_rgb():
    red = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    red.putpixel((1, 0), (0, 0, 0, 0))
    assert np.asarray(to_rgb(red)).tolist() == [[[255, 0, 0], [255, 255, 255]]]
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([9, 8, 7])
    assert np.asarray(to_rgb(palette)).tolist() == [[[9, 8, 7]]]
    palette.info["transparency"] = 0
    assert np.asarray(to_rgb(palette)).tolist() == [[[255] * 3]]
    assert np.asarray(to_rgb(Image.new("L", (1, 1), 77))).tolist() == [[[77] * 3]]
    for mode in (np.uint16, np.int32):  # sixteen bits, as PIL opens them
        deep = Image.fromarray(np.array([[0, 255, 32768, 65535]], dtype=mode))
        assert np.asarray(to_rgb(deep))[0, :, 0].tolist() == [0, 0, 128, 255]


def test_what_cannot_be_decoded_is_named_skipped_and_counted(tmp_path):
    for i in range(6):
        Image.effect_noise((32, 32), 50).save(tmp_path / f"{i}.png")
    for i, content in ((1, b"no image"), (4, (tmp_path / "4.png").read_bytes()[:200])):
        (tmp_path / f"{i}.png").write_bytes(content)
    reader = ImageReader(ImageFolder(str(tmp_path)), to_tensor, n_workers=2)
    with pytest.warns(UserWarning, match="cannot be decoded") as caught:
        pixels, numbers = reader.read(torch.arange(6))
    assert sorted(Path(str(warning.message).split(": ")[0].split(", ")[1]).name for warning in caught) == [
        "1.png",
        "4.png",
    ]
    assert numbers.tolist() == [0, 2, 3, 5]
    assert pixels.shape == (4, 3, 32, 32)
    assert sorted(reader.skipped) == [1, 4]
    again, numbers = reader.read(torch.tensor([1, 4, 5]))  # without a word
    assert numbers.tolist() == [5]
    assert torch.equal(again[0], pixels[3])
    none, numbers = reader.read(torch.tensor([1, 4]))
    assert len(none) == len(numbers) == 0


def test_a_table_as_a_spreadsheet_writes_it(image_folder, tmp_path):
    paths = sorted(str(path.relative_to(image_folder)) for path in Path(image_folder).rglob("*.png"))
    lines = ["file;hue", *(f"{path.replace('/', chr(92))};{Path(path).parent.name}" for path in paths)]
    (tmp_path / "table.csv").write_text("\r\n".join(lines), encoding="utf-8-sig", newline="")
    assert ImageFolder(image_folder, str(tmp_path / "table.csv")).values == {"hue": ["blue", "green", "red"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"file,hue\ncaf\xe9,blue\n", "line 2: byte 0xe9 at position 12 is not UTF-8; save it as UTF-8"),
        (b"file,hue\nblue/0.png,blue,red\n", "cannot be read .line 2: 3 cells, and 2 columns"),
        (b'file,hue\n"blue/0.png,blue\n', "cannot be read .line 2: a quote is opened and not closed"),
        (
            b"file,hue\nblue/0.png,blue\nblue/0.png,red\n",
            "line 3: blue/0.png has other values than in a line before it",
        ),
        (b"path,hue\n", "expected a column file and one for each attribute; it has path, hue"),
    ],
)
def test_a_table_that_cannot_be_read_is_named_by_its_line(image_folder, tmp_path, content, message):
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(ValueError, match=f"table=.*table.csv.*{message}"):
        ImageFolder(image_folder, str(tmp_path / "table.csv"))


def test_images_of_which_none_can_be_decoded_end_the_run(tmp_path):
    for i in range(4):
        (tmp_path / f"{i}.jpg").write_bytes(b"no image")
        (tmp_path / f"._{i}.jpg").write_bytes(b"what a Mac keeps about it")
    images = ImageFolder(str(tmp_path))
    assert len(images) == 4
    reader = ImageReader(images, to_tensor, n_workers=1)
    with pytest.warns(UserWarning, match="cannot be decoded"):
        reader.read(torch.arange(4))
    with pytest.raises(ValueError, match="none of 4 images can be decoded, such as .*0.jpg: cannot identify"):
        reader.read(torch.arange(2))


def test_whatever_a_reader_of_images_raises_an_image_is_named(image_folder):
    def fail(image):
        raise Image.DecompressionBombError

    reader = ImageReader(ImageFolder(image_folder), fail, n_workers=1)
    with pytest.warns(UserWarning, match=r"cannot be decoded, .*0.png: DecompressionBombError"):
        assert len(reader.read(torch.arange(1))[1]) == 0


def test_a_dataset_that_save_to_disk_wrote(image_folder, tmp_path):
    from datasets import DatasetDict, load_dataset

    rows = load_dataset(image_folder, split="train")
    DatasetDict({"train": rows}).save_to_disk(tmp_path / "saved")
    assert len(HubImages(str(tmp_path / "saved"), attributes=["label"])) == 60
    with pytest.raises(ValueError, match="it has no split test; expected one of train"):
        HubImages(str(tmp_path / "saved"), split="test")
