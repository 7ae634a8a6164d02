"""Caches of CLIP models: images by their numbers, captions by their tokens."""

import json
import shutil
from itertools import islice
from pathlib import Path

import pytest
import tiny
import torch
import yaml

from sae_lightning.cli import main
from sae_lightning.datamodules import CachedActivations, ClipImages, ClipText, FileText
from sae_lightning.images import ImageFolder
from sae_lightning.sources import ImageBatch, TokenBatch

SIZES = {"batch_size": 32, "train_samples": 320, "val_samples": 64, "loss_samples": 100, "buffer_samples": 300}


@pytest.fixture(params=["images", "captions"])
def made(request, tiny_clip, image_folder, tmp_path):
    """Settings of the data, the datamodule, and the folder of its cache."""
    if request.param == "images":
        folder = Path(shutil.copytree(image_folder, tmp_path / "images"))
        (folder / "green/3.png").write_bytes((folder / "green/3.png").read_bytes()[:60])
        images = {"class_path": "ImageFolder", "init_args": {"folder": str(folder), "heldout_every": 4}}
        data = {"model": tiny_clip, "hook": "visual.transformer.resblocks.0", "images": images, "images_per_forward": 4}
        make = {"class_path": "ClipImages", "init_args": data | SIZES}
        data = data | {"images": ImageFolder(str(folder), heldout_every=4)}
        datamodule = ClipImages(**data, **SIZES)
    else:
        text = tiny.save_text(tmp_path / "text.jsonl", 150)
        file = {"class_path": "FileText", "init_args": {"paths": text, "heldout_every": 5}}
        data = {"model": tiny_clip, "hook": "transformer.resblocks.0", "text": file, "captions_per_forward": 4}
        make = {"class_path": "ClipText", "init_args": data | SIZES}
        datamodule = ClipText(**data | {"text": FileText(text, heldout_every=5)}, **SIZES)
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"data": make}))
    return datamodule, tmp_path


def cache(folder, *options):
    main(["cache", "--config", str(folder / "data.yaml"), "--out", str(folder / "cache"), *options])
    return str(folder / "cache")


@pytest.mark.filterwarnings("ignore:skipped an image")
def test_the_order_stream_gives_the_batches_of_the_datamodule(made):
    datamodule, folder = made
    cached = CachedActivations(cache(folder, "--shard_samples", "200"), "stream", **SIZES)
    cached.setup("fit")
    datamodule.setup("fit")
    batches = list(islice(datamodule.train_stream(), 10))
    for mine, other in zip(islice(cached.train_stream(), 10), batches, strict=True):
        assert torch.equal(mine, other)
    assert torch.equal(next(cached.val_stream()), next(datamodule.val_stream()))


@pytest.mark.filterwarnings("ignore:skipped an image")
def test_evaluators_get_what_they_would_get_of_the_datamodule(made):
    datamodule, folder = made
    cached = CachedActivations(cache(folder), **SIZES)
    for mine, other in zip(cached.validation_inputs(), datamodule.validation_inputs(), strict=True):
        assert type(mine) is type(other)
        assert torch.equal(mine.rows, other.rows)
        assert torch.equal(mine.mask, other.mask)
        assert torch.equal(cached.source.capture(mine)[0], datamodule.source.capture(other)[0])
    assert torch.equal(
        cached.source.replace(mine, torch.zeros_like), datamodule.source.replace(other, torch.zeros_like)
    )
    assert cached.source.scale == datamodule.source.scale
    is_text = isinstance(datamodule, ClipText)
    assert (cached.packing is None, cached.images is None, cached.mask is None) == (not is_text, is_text, is_text)
    assert (cached.rows_at_once, cached.source.embeds_images) == (datamodule.rows_at_once, True)
    assert cached.source.reads_images == (not is_text)
    if not is_text:
        assert torch.equal(cached.mask, datamodule.mask)
        assert torch.equal(cached.images.numbers("heldout"), datamodule.images.numbers("heldout"))
    assert isinstance(cached.heldout_rows(50), TokenBatch if is_text else ImageBatch)


@pytest.mark.filterwarnings("ignore:skipped an image")
def test_going_on_and_other_settings(made, capsys):
    datamodule, folder = made
    out = cache(folder)
    manifest = json.loads(Path(out, "manifest.json").read_text())
    assert manifest["class_path"] == type(datamodule).__name__
    capsys.readouterr()
    cache(folder)
    assert f"made now: 0 {datamodule.unit}" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit):
        cache(folder, "--data.dtype", "bfloat16")
    assert "data.dtype=float32 there, bfloat16 here" in capsys.readouterr().err
    is_text = isinstance(datamodule, ClipText)
    if is_text:  # the seed decides the order of images, and of captions nothing before the buffer
        cache(folder, "--data.seed", "1")
    else:
        with pytest.raises(SystemExit):
            cache(folder, "--data.seed", "1")


def test_another_model_in_its_place(made, tmp_path):
    datamodule, folder = made
    if isinstance(datamodule, ClipText):
        model = Path(shutil.copytree(datamodule.source.name, tmp_path / "model"))
        cached = CachedActivations(cache(folder, "--data.model", str(model)), **SIZES)
        config = json.loads((model / "open_clip_config.json").read_text())
        config["preprocess_cfg"]["mean"] = [0.1, 0.2, 0.3]
        (model / "open_clip_config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match="is not the one that the cache .* was made with"):
            cached.source.capture(cached.heldout_rows(20))


@pytest.mark.filterwarnings("ignore:skipped an image")
def test_a_forward_of_damaged_images_alone(made):
    datamodule, folder = made
    if isinstance(datamodule, ClipImages):
        out = cache(folder, "--data.images_per_forward", "1")
        assert json.loads(Path(out, "manifest.json").read_text())["counts"]["tokens"] % datamodule.positions == 0


@pytest.mark.filterwarnings("ignore:skipped an image")
def test_which_tower_is_read_is_known_without_the_model(made, monkeypatch):
    datamodule, folder = made
    cached = CachedActivations(cache(folder), **SIZES)
    monkeypatch.setattr(type(cached.source), "loaded", None)
    assert cached.source.reads_images == datamodule.source.reads_images
    assert cached.source.features is None
