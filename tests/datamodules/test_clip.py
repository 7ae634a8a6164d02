"""What is particular to images and captions; what every datamodule promises is in test_datamodules.py."""

import shutil
from itertools import islice
from pathlib import Path

import pytest
import tiny
import torch

from sae_lightning.datamodules import ClipImages, ClipText, FileText
from sae_lightning.datamodules.clip_text import CaptionRows
from sae_lightning.datamodules.image_stream import ImageOrder
from sae_lightning.images import ImageFolder

SIZES = {"batch_size": 32, "train_samples": 320, "val_samples": 64, "loss_samples": 50, "buffer_samples": 300}


def clip_images(model, folder, **kwargs):
    images = ImageFolder(str(folder), heldout_every=4)
    defaults = {"images_per_forward": 4, "n_workers": 2}
    return ClipImages(model, "visual.transformer.resblocks.0", images, **SIZES | defaults | kwargs)


def test_each_pass_over_the_images_has_another_order():
    numbers = torch.tensor([3, 5, 8, 9, 11])
    order = ImageOrder(numbers, seed=1)
    passes = order.slice(0, 15).view(3, 5)
    assert all(torch.equal(numbers_of_pass.sort().values, numbers) for numbers_of_pass in passes)
    assert len({tuple(numbers_of_pass.tolist()) for numbers_of_pass in passes}) == 3
    assert torch.equal(order.slice(4, 11), passes.flatten()[4:11])
    assert not torch.equal(ImageOrder(numbers, seed=2).slice(0, 15), passes.flatten())


@pytest.mark.parametrize(("positions", "n"), [("all", 17), ("cls", 1), ("patch", 16)])
def test_valid_positions(tiny_clip, image_folder, positions, n):
    datamodule = clip_images(tiny_clip, image_folder, positions=positions, batch_size=8, val_samples=8)
    datamodule.setup("validate")
    inputs = datamodule.heldout_rows(4 * n)
    activations, mask = datamodule.source.capture(inputs)
    assert mask.sum(1).tolist() == [n] * 4
    first = {"all": 0, "cls": 0, "patch": 1}[positions]
    assert torch.equal(next(datamodule.val_stream())[0], activations[0, first])


def test_captions_are_rows():
    class Words:
        context_length, eot_token_id = 6, 9

        def __call__(self, texts):
            rows = [[1, *map(int, text.split()), 9] for text in texts]
            return torch.tensor([row + [0] * (6 - len(row)) for row in rows])

    rows = CaptionRows(Words(), "all")
    made, left = rows.cut(rows.tokenise(["3 4", "5"]))
    assert ([row.tolist() for row in made], len(left)) == ([[1, 3, 4, 9, 0, 0], [1, 5, 9, 0, 0, 0]], 0)
    ids = torch.tensor([[1, 3, 4, 9, 9, 9], [1, 5, 9, 0, 0, 0]])  # some tokenizers pad with end tokens
    for positions, expected in (
        ("all", [[0, 1, 1, 1, 0, 0], [0, 1, 1, 0, 0, 0]]),
        ("words", [[0, 1, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0]]),
        ("end", [[0, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0]]),
    ):
        assert CaptionRows(Words(), positions).mask(ids).int().tolist() == expected


def test_the_end_token_is_the_one_that_is_pooled(tiny_clip, tmp_path):
    text = FileText(tiny.save_text(tmp_path / "captions.jsonl", 60), heldout_every=4)
    data = ClipText(tiny_clip, "ln_final", text, positions="end", captions_per_forward=4, **SIZES | {"val_samples": 32})
    inputs = data.heldout_rows(10)
    changed = data.source.replace(inputs, lambda x: torch.where(inputs.mask[..., None], x, torch.zeros_like(x)))
    torch.testing.assert_close(changed, data.source.forward(inputs))


def test_damaged_images_are_skipped_in_training_and_validation(tiny_clip, image_folder, tmp_path):
    folder = Path(shutil.copytree(image_folder, tmp_path / "some"))
    for name in ("blue/0", "green/3", "red/5"):  # the first is held out
        (folder / f"{name}.png").write_bytes((folder / f"{name}.png").read_bytes()[:60])
    datamodule = clip_images(tiny_clip, folder, images_per_forward=1)
    stream = datamodule.train_stream()
    with pytest.warns(UserWarning, match="skipped an image that cannot be decoded"):
        batches = list(islice(stream, 40))
    assert all(torch.isfinite(batch).all() for batch in batches)
    with pytest.warns(UserWarning, match="blue.0.png"):
        inputs = datamodule.heldout_rows(10_000)
    assert (len(inputs.numbers), len(datamodule.reader.skipped)) == (14, 3)
    datamodule.load_state_dict({"ranks": [stream.state_dict()]})
    assert torch.equal(next(iter(datamodule.train_dataloader())), next(stream))


def test_a_folder_without_one_good_image(tiny_clip, tmp_path):
    for i in range(8):
        (tmp_path / f"{i}.png").write_bytes(b"nothing")
    with (
        pytest.warns(UserWarning, match="cannot be decoded"),
        pytest.raises(ValueError, match="the training images: 0 valid positions, fewer than one batch"),
    ):
        clip_images(tiny_clip, tmp_path).setup("fit")


def test_a_block_that_failed_is_read_again(tiny_clip, image_folder, monkeypatch):
    datamodule = clip_images(tiny_clip, image_folder)
    stream, other = datamodule.train_stream(), datamodule.train_stream()
    forward, calls = datamodule.source._forward_to_hooks, []

    def broken(inputs):
        calls.append(inputs.numbers)
        parts = forward(inputs)
        return {"": parts[""] * torch.inf} if len(calls) == 1 else parts

    monkeypatch.setattr(datamodule.source, "_forward_to_hooks", broken)
    with pytest.raises(ValueError, match=r"not finite .* The first: .*\.png, position 0"):
        next(stream)
    first = next(stream)
    assert torch.equal(calls[0], calls[1])
    monkeypatch.undo()
    assert torch.equal(first, next(other))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"buffer_samples": 100}, r"expected at least 136, .*images_per_forward \* 17 positions = 68 activations"),
        ({"n_workers": 0}, "n_workers=0: expected a whole number, 1 or more"),
        ({"images_per_forward": 0}, "images_per_forward=0: expected a whole number, 1 or more"),
        ({"loss_samples": 0}, "loss_samples=0: expected a whole number, 1 or more"),
    ],
)
def test_bad_arguments(tiny_clip, image_folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        clip_images(tiny_clip, image_folder, **arguments)


def test_hooks_of_the_other_tower(tiny_clip, image_folder, tmp_path):
    with pytest.raises(ValueError, match="expected one of the image tower"):
        ClipImages(tiny_clip, "transformer.resblocks.0", ImageFolder(image_folder))
    with pytest.raises(ValueError, match="expected one of the text tower"):
        ClipText(tiny_clip, "visual.transformer.resblocks.0", FileText(tiny.save_text(tmp_path / "text.jsonl")))
