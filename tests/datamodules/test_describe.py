"""What data say of themselves, and which SAEs they refuse for it."""

import json
import shutil

import pytest
import tiny

from sae_lightning.datamodules import (
    CachedActivations,
    ClipImages,
    DecoderDirections,
    FileText,
    LanguageModelDataModule,
)
from sae_lightning.datamodules.cache.writer import CacheWriter
from sae_lightning.images import ImageFolder
from sae_lightning.provenance import differences
from sae_lightning.saes import TopK
from sae_lightning.sources import GaussianMatched

SIZES = {"context_length": 16, "batch_size": 64, "train_samples": 128, "val_samples": 64, "llm_batch_size": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("describe")
    tiny.save_tiny_lm(folder / "lm")
    tiny.save_tiny_lm(folder / "other", seed=1)
    shutil.copytree(folder / "lm", folder / "moved")
    tiny.save_text(folder / "text.jsonl", 400)
    return folder


def arguments(folder, **changes):
    own = {"model": str(folder / "lm"), "hook": "model.layers.0", "buffer_samples": 256, **SIZES}
    return own | {"text": FileText(str(folder / "text.jsonl"))} | changes


def data(folder, **changes):
    return LanguageModelDataModule(**arguments(folder, **changes))


def names(saved, given):
    return [one.name for one in differences(saved.describe_activations()[""], given.describe_activations()[""])]


def test_a_language_model_is_its_weights_wherever_it_lies_and_however_it_is_loaded(folder):
    own = data(folder)
    assert names(own, data(folder, model=str(folder / "moved"))) == []
    assert names(own, data(folder, dtype="bfloat16")) == []
    assert names(own, data(folder, dtype="float16")) == []
    assert names(own, data(folder, model=str(folder / "other"))) == ["model"]
    assert names(own, data(folder, hook="model.layers.1")) == ["hook"]
    assert names(own, data(folder, hook_input=True)) == ["hook_input"]


def test_text_and_how_it_is_read_are_said_as_they_were_typed(folder):
    said = data(folder).describe()
    assert json.loads(json.dumps(said)) == said
    assert said["text"]["paths"] == [str(folder / "text.jsonl")]
    assert (said["context_length"], said["bos_in_every_row"], said["batch_size"]) == (16, True, 64)
    assert said["left_out"] == "special tokens"
    assert said["tokenizer"] == str(folder / "lm")
    assert said["llm_batch_size"] == 4


def test_each_hook_and_each_null_is_a_part_of_its_own(folder):
    hooks = data(folder, hook={"early": "model.layers.0", "late": "model.layers.1"}).describe_activations()
    assert [hooks[part]["hook"] for part in ("early", "late")] == ["model.layers.0", "model.layers.1"]
    assert hooks[""]["hook"] == {"early": "model.layers.0", "late": "model.layers.1"}
    nulls = data(folder, nulls={"noise": GaussianMatched(seed=3)}).describe_activations()
    assert nulls["noise"]["null"]["class"] == "GaussianMatched"
    assert nulls["noise"]["null"]["seed"] == 3
    assert nulls[""] == data(folder).describe_activations()[""]


def test_an_sae_of_other_activations_is_refused(folder):
    own = data(folder)
    sae = TopK(16, k=2, d_sae=32)
    own.refuse_sae_of_others(sae, "an SAE that says nothing")
    sae.provenance = {"activations": own.describe_activations()[""]}
    own.refuse_sae_of_others(sae, "its own")
    with pytest.raises(ValueError, match="RUN/saes .*: data.hook=model.layers.1, it has model.layers.0"):
        data(folder, hook="model.layers.1").refuse_sae_of_others(sae, "RUN/saes")
    with pytest.raises(ValueError, match="data.null=GaussianMatched, it has None"):
        data(folder, nulls={"noise": GaussianMatched()}).refuse_sae_of_others(sae, "RUN/saes", "noise")


def test_a_cache_passes_on_what_its_source_said(folder, tmp_path):
    own = data(folder)
    given = {name: value for name, value in arguments(folder).items() if name != "text"}
    assert CacheWriter(own, given, str(tmp_path)).write()
    cached = CachedActivations(str(tmp_path), batch_size=32, buffer_samples=64)
    assert cached.describe_activations() == own.describe_activations()
    assert cached.describe()["made_from"]["data"] == own.describe()
    older = {name: value for name, value in cached.source.manifest.items() if name != "provenance"}
    older["data"] = {"model": str(folder / "lm"), "hook": "model.layers.0", "hook_input": False}
    cached.source.manifest = older
    assert names(cached, own) == []
    assert names(cached, data(folder, hook="model.layers.1")) == ["hook"]


def test_clip_images_say_which_positions_are_valid(tiny_clip, image_folder):
    made = ClipImages(
        tiny_clip, "visual.transformer.resblocks.0", ImageFolder(image_folder), positions="patch", batch_size=8,
        train_samples=8, val_samples=8, buffer_samples=256, images_per_forward=2,
    )  # fmt: skip
    assert made.describe()["positions"] == "patch"
    assert made.describe()["images"]["class"] == "ImageFolder"
    own = made.describe_activations()[""]
    assert (own["hook"], own["class"], len(own["weights"])) == ("visual.transformer.resblocks.0", "ClipSource", 16)


def test_directions_of_saes_of_different_activations_are_refused(tmp_path):
    for name, hook in (("a", "one"), ("b", "two"), ("c", "one")):
        sae = TopK(16, k=2, d_sae=32, seed=ord(name))
        sae.provenance = {"activations": {"hook": hook}}
        sae.save(tmp_path / name)
    folders = [str(tmp_path / name) for name in "abc"]
    with pytest.raises(ValueError, match=r"saes: .*b \(compared with .*a\) .*data.hook=one, it has two"):
        DecoderDirections(folders[:2], batch_size=8, train_samples=8)
    one = DecoderDirections([folders[0], folders[2]], batch_size=8, train_samples=8)
    other = DecoderDirections(folders[:1], batch_size=8, train_samples=8)
    assert names(one, other) == ["directions"]
    assert one.base["activations"] == {"hook": "one"}
