"""GGUF files in place of a checkpoint; they are written with the package that transformers reads them with."""

import shutil

import pytest
import torch
from tiny import save_text, save_tiny_gguf

from sae_lightning.cli import main
from sae_lightning.datamodules import LanguageModelDataModule
from sae_lightning.datamodules.cache.manifest import model_files
from sae_lightning.datamodules.file_text import FileText
from sae_lightning.sources import LanguageModelSource, gguf
from sae_lightning.sources.checkpoint import check_folder, load_kind, load_tokenizer


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The file, and the model that was written to it."""
    pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return file, save_tiny_gguf(file)


def test_the_weights_are_those_of_the_file(tiny):
    file, model = tiny
    source = LanguageModelSource(str(file), "model.layers.0")
    weights = source.model.state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in model.state_dict().items())
    inputs = source.example()
    assert torch.equal(source.outputs(source.forward(inputs)), model(inputs.input_ids).logits)
    assert source.kind == load_kind(str(file), None)
    assert not source.no_next_token
    assert source.max_length == 64
    assert source.model.dtype == torch.float32
    assert source.describe()["weights"] == LanguageModelSource(str(file.parent), "model.layers.0").describe()["weights"]
    assert LanguageModelSource(str(file), "model.layers.0", dtype="bfloat16").model.dtype == torch.bfloat16
    redrawn = source.redrawn(seed=1, embeddings=False)
    assert not torch.equal(redrawn.capture(inputs)[0], source.capture(inputs)[0])
    assert list(model_files(str(file))) == list(model_files(str(file.parent))) == ["tiny.gguf"]


def test_reading_prints_no_bar_of_transformers(tiny, capsys):
    LanguageModelSource(str(tiny[0]), "model.layers.0")
    assert "GGUF" not in capsys.readouterr().err


def test_the_tokenizer_is_that_of_the_file(tiny):
    file, _ = tiny
    tokenizer = load_tokenizer(str(file))
    assert tokenizer.convert_ids_to_tokens(tokenizer("the cats", add_special_tokens=False)["input_ids"]) == [
        "the", "Ġ", "cat", "s"
    ]  # fmt: skip
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.name_or_path) == (1, 2, str(file))


def test_a_file_is_data_model_of_a_run_and_of_commands(tiny, tmp_path, capsys, monkeypatch):
    file, model = tiny
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    save_tiny_gguf(folder / "tiny.gguf", seed=1)
    monkeypatch.chdir(folder)  # a file of the same name here is not the one that was asked for
    data = LanguageModelDataModule(
        str(file), "model.layers.1", FileText(save_text(tmp_path / "text.jsonl")),
        context_length=32, batch_size=16, train_samples=64, val_samples=32, buffer_samples=1200, llm_batch_size=4,
    )  # fmt: skip
    data.setup("fit")
    assert next(iter(data.train_dataloader())).shape == (16, 16)
    assert torch.equal(data.source.model.lm_head.weight, model.lm_head.weight)
    main(["hooks", str(file)])
    assert "model.layers.1" in capsys.readouterr().out


def test_what_a_path_stands_for(tmp_path):
    def folder(*names):
        new = tmp_path / f"folder{len(list(tmp_path.iterdir()))}"
        new.mkdir()
        for name in names:
            (new / name).touch()
        return new

    one = folder("README.md", "a.GGUF", "config.json")
    assert gguf.gguf_file(str(one)) == gguf.gguf_file(str(one / "a.GGUF")) == one / "a.GGUF"
    assert gguf.gguf_file(str(folder("a.gguf", "model.safetensors"))) is None
    assert gguf.gguf_file("somebody/model") is gguf.gguf_file(str(folder())) is None
    two = folder("a.gguf", "b.gguf")
    assert gguf.gguf_file(str(two / "b.gguf")) == two / "b.gguf"
    with pytest.raises(ValueError, match="the folder has 2 GGUF files, a.gguf, b.gguf; give one of them"):
        check_folder(str(two))
    with pytest.raises(ValueError, match="m-00002-of-00003.gguf is part 2 of 3, and transformers reads one file: join"):
        check_folder(str(folder("m-00002-of-00003.gguf") / "m-00002-of-00003.gguf"))
    with pytest.raises(ValueError, match="no.gguf: there is no such file"):
        check_folder("no.gguf")
    with pytest.raises(
        ValueError, match="README.md: expected the folder of a transformers checkpoint, or a file .*.ggu"
    ):
        check_folder(str(one / "README.md"))


def test_a_missing_package_is_said_before_anything_is_read(tmp_path, monkeypatch):
    (tmp_path / "a.gguf").touch()
    monkeypatch.setattr(gguf, "find_spec", lambda name: None if name == "gguf" else True)
    loaders = (
        load_tokenizer,
        lambda path: LanguageModelSource(path, "model.layers.0"),
        lambda path: load_kind(path, None),
    )
    for load in loaders:
        with pytest.raises(
            ValueError, match=r"a.gguf: .* needs gguf: pip install gguf, .* extra sae-lightning\[gguf\]"
        ):
            load(str(tmp_path))


def test_a_damaged_file(tiny, tmp_path):
    file = shutil.copy(tiny[0], tmp_path / "half.gguf")
    whole = file.read_bytes()
    for part in (b"", b"GGUF", whole[: len(whole) // 3], whole[:-2000]):
        file.write_bytes(part)
        with pytest.raises(ValueError, match="half.gguf: transformers cannot read this GGUF file"):
            LanguageModelSource(str(file), "model.layers.0")
