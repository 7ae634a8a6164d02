"""What `sae cache` writes, how it continues, and what it says when it cannot."""

import errno
import json
from hashlib import sha256
from pathlib import Path

import fsspec
import pytest
import tiny
import torch
import yaml
from safetensors.torch import load_file

import sae_lightning
from sae_lightning.cli import main
from sae_lightning.datamodules.cache import storage, writer
from sae_lightning.datamodules.cache.process import Process


def content(folder):
    """Every file's hash; of the manifest without the command."""
    files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    manifest = json.loads(files.pop("manifest.json"))
    del manifest["command"]
    return {name: sha256(data).hexdigest() for name, data in files.items()} | {"manifest": manifest}


def mistake(capsys, make, *options, **kwargs):
    with pytest.raises(SystemExit) as stop:
        make(*options, **kwargs)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message[message.index("error: ") :]


def test_nulls_are_refused(cache, capsys, tmp_path):
    message = mistake(capsys, cache, "--data.nulls", "{rotated: {class_path: RandomRotation}}")
    assert "data.nulls=rotated: a cache holds the activations of the model alone; leave out data.nulls" in message
    assert not (tmp_path / "cache").exists()


def test_shards_hold_what_the_model_computes(cache, language_model, tiny_lm):
    folder = Path(cache())
    manifest = json.loads((folder / "manifest.json").read_text())
    source = language_model().source
    n = {"train": 0, "heldout": 0}
    all_rows = []
    for entry in manifest["shards"]:
        data = (folder / entry["file"]).read_bytes()
        assert (len(data), sha256(data).hexdigest()) == (entry["bytes"], entry["sha256"])
        shard = load_file(folder / entry["file"])
        assert (shard["input_ids"].dtype, shard["mask"].dtype) == (torch.int32, torch.bool)
        assert shard["input_ids"].shape == shard["mask"].shape == (entry["rows"], 16)
        assert shard["activations"].shape == (entry["tokens"], manifest["d_in"]) == (int(shard["mask"].sum()), 16)
        begin = 0
        for ids, mask in zip(shard["input_ids"].long().split(4), shard["mask"].split(4), strict=True):
            made = source.capture(sae_lightning.sources.TokenBatch(ids, mask))[0][mask]
            assert torch.equal(shard["activations"][begin : begin + len(made)], made)
            begin += len(made)
        split = entry["file"].split("-")[0]
        n[split] += entry["tokens"]
        all_rows += [shard["activations"]] if split == "train" else []
    assert 12 * 64 + 200 <= n["train"] < 12 * 64 + 200 + 64
    assert manifest["counts"] == {
        "tokens": n["train"],
        "massive": 0,
        "heldout_massive": 0,
        "rows": sum(e["rows"] for e in manifest["shards"] if e["file"].startswith("train")),
        "heldout_tokens": n["heldout"],
        "heldout_rows": sum(e["rows"] for e in manifest["shards"] if e["file"].startswith("heldout")),
        "shards": len(manifest["shards"]),
    }
    assert {entry["rows"] for entry in manifest["shards"] if entry["file"].startswith("train")} >= {8}
    rows = torch.cat(all_rows).double()
    expected = {
        "mean_norm": rows.norm(dim=1).mean(),
        "mean_squared_norm": rows.square().sum(1).mean(),
        "squared_norm_of_mean": rows.mean(0).square().sum(),
    }
    assert manifest["statistics"] == pytest.approx({name: float(v) for name, v in expected.items()}, rel=1e-5)
    assert (
        manifest["model"]["sha256"]["model.safetensors"]
        == sha256((Path(tiny_lm) / "model.safetensors").read_bytes()).hexdigest()
    )
    assert manifest["data"]["hook"] == "model.layers.0"
    assert manifest["versions"]["torch"] == torch.__version__


def test_ranks_write_the_same_files(cache, tmp_path, monkeypatch, capsys):
    alone = content(cache(out=tmp_path / "alone"))
    for rank in (1, 2, 0):
        for name, value in {"RANK": rank, "WORLD_SIZE": 3, "LOCAL_RANK": rank}.items():
            monkeypatch.setenv(name, str(value))
        cache(out=tmp_path / "ranks")
        done = json.loads((tmp_path / "ranks/manifest.json").read_text())["complete"]
        assert done == (rank == 0)
        assert ("others have not" in " ".join(capsys.readouterr().out.split())) == (rank != 0)
    assert content(tmp_path / "ranks") == alone
    forwards = []
    monkeypatch.setattr(writer, "valid_activations_and_mask", lambda *args: forwards.append(args))
    cache(out=tmp_path / "ranks")  # nothing is left to do
    assert not forwards


@pytest.mark.parametrize("when", ["before the shard", "in the shard", "after the shard"])
def test_an_interrupted_cache_continues_without_the_model_on_finished_shards(cache, tmp_path, monkeypatch, when):
    whole = content(cache(out=tmp_path / "whole"))
    n_blocks = -(-json.loads((tmp_path / "whole/manifest.json").read_text())["counts"]["rows"] // 4)
    write = storage.Folder.write

    def die_at_the_third(self, name, data):
        wanted = "train-00002.safetensors" + (".json" if when == "after the shard" else "")
        if name != wanted:
            return write(self, name, data)
        if when == "in the shard":  # as kill -9 leaves it
            Path(self.root, f"{name}.1-ab.tmp").write_bytes(data[:1000])
        raise KeyboardInterrupt

    monkeypatch.setattr(storage.Folder, "write", die_at_the_third)
    with pytest.raises(SystemExit):
        cache()
    monkeypatch.setattr(storage.Folder, "write", write)
    shards = {path.name for path in (tmp_path / "cache").glob("train-*.safetensors")}
    assert {"train-00000.safetensors", "train-00001.safetensors"} <= shards
    assert ("train-00002.safetensors" in shards) == (when == "after the shard")
    assert not json.loads((tmp_path / "cache/manifest.json").read_text())["complete"]

    forwards = []
    real = writer.valid_activations_and_mask
    monkeypatch.setattr(writer, "valid_activations_and_mask", lambda *args: forwards.append(1) or real(*args))
    assert content(cache()) == whole
    assert len(forwards) <= n_blocks - 4


def test_lost_shards_are_made_again(cache, tmp_path):
    whole = content(cache())
    (tmp_path / "cache/train-00003.safetensors").unlink()
    (tmp_path / "cache/heldout-00000.safetensors").write_bytes(b"short")
    assert content(cache()) == whole


def test_a_full_disk_loses_nothing(cache, tmp_path, monkeypatch, capsys):
    whole = content(cache(out=tmp_path / "whole"))

    class FullDisk:
        def __init__(self, path, mode):
            self.file = open(path, mode)  # noqa: SIM115
            self.is_full = "train-00002.safetensors" in path

        def __enter__(self):
            return self

        def __exit__(self, *args):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            if self.is_full:
                self.file.write(data[: len(data) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

    monkeypatch.setattr(storage, "open", FullDisk, raising=False)
    message = mistake(capsys, cache)
    assert "the disk is full. 4 shards are complete and kept; the same command continues" in message
    assert not list((tmp_path / "cache").glob("*.tmp"))
    assert not (tmp_path / "cache/train-00002.safetensors").exists()
    assert (tmp_path / "cache/train-00001.safetensors").exists()
    monkeypatch.undo()
    assert content(cache()) == whole


def test_too_little_room_is_reported_before_anything_is_written(cache, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(storage, "free_bytes", lambda folder: 1000)
    assert "GB are needed and 0.00 GB are free" in mistake(capsys, cache)
    assert not list(tmp_path.glob("cache/*.safetensors"))


def test_what_is_there_needs_no_room_again(cache, monkeypatch, capsys):
    whole = content(cache())
    monkeypatch.setattr(storage, "free_bytes", lambda folder: 10_000)
    assert content(cache()) == whole
    assert "GB are needed" in mistake(capsys, cache, "--out=another")


def test_other_settings_are_refused(cache, capsys, tiny_lm, tmp_path):
    cache()
    message = mistake(capsys, cache, "--data.context_length=8", "--dtype=bfloat16")
    assert "data.context_length=16 there, 8 here; dtype=float32 there, bfloat16 here" in message
    cache("--data.batch_size=32", "--data.seed=5")  # these change nothing
    other = tiny.save_tiny_lm(tmp_path / "other", seed=1)
    assert "model.sha256.model.safetensors=" in mistake(capsys, cache, f"--data.model={other}")


def test_another_text_is_refused(cache, capsys, run_yaml, tmp_path):
    run = yaml.safe_load(run_yaml.read_text())
    own = tiny.save_text(tmp_path / "own.jsonl", 150)
    run["data"]["init_args"]["text"]["init_args"]["paths"] = own
    run_yaml.write_text(yaml.safe_dump(run))
    cache()
    tiny.save_text(own, 150, start=1)
    assert "the text, or how rows are made from it, changed since heldout-00000" in mistake(capsys, cache)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_number_formats(cache, tmp_path, dtype):
    wide = load_file(Path(cache(out=tmp_path / "wide"), "train-00001.safetensors"))["activations"]
    narrow = load_file(Path(cache(f"--dtype={dtype}"), "train-00001.safetensors"))["activations"]
    assert narrow.dtype == getattr(torch, dtype)
    assert torch.equal(narrow, wide.to(narrow.dtype))


def test_the_default_format_is_that_of_the_activations(cache, tmp_path):
    model = tiny.save_tiny_lm(tmp_path / "bfloat16", dtype="bfloat16")
    folder = cache(f"--data.model={model}")
    assert load_file(Path(folder, "train-00000.safetensors"))["activations"].dtype == torch.bfloat16


def test_numbers_that_do_not_fit_are_refused(cache, capsys, monkeypatch):
    real = writer.valid_activations_and_mask

    def large(*args):
        activations, valid = real(*args)
        activations[0, :3] = 1e5
        return activations, valid

    monkeypatch.setattr(writer, "valid_activations_and_mask", large)
    message = mistake(capsys, cache, "--dtype=float16")
    assert "heldout-00000.safetensors: 6 numbers do not fit float16" in message


def test_the_text_is_read_once(cache, capsys):
    folder = cache("--data.train_samples=100000")
    assert "The training text ended before the 100,200 tokens" in capsys.readouterr().out
    manifest = json.loads(Path(folder, "manifest.json").read_text())
    ids = [load_file(Path(folder, entry["file"]))["input_ids"] for entry in manifest["shards"][-200:]]
    assert 1000 < manifest["counts"]["tokens"] < 5000
    assert len(torch.cat(ids)) == manifest["counts"]["rows"] + manifest["counts"]["heldout_rows"]


def test_a_url(cache, tmp_path):
    local = content(cache())
    cache(out="memory://bucket/cache")
    fsspec.filesystem("memory").get("/bucket/cache", str(tmp_path / "copy"), recursive=True)
    assert content(tmp_path / "copy") == local
    fsspec.filesystem("memory").rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--data=SyntheticDataModule"], "sae cache needs the activations of a model, LanguageModelDataModule"),
        (["--data=LanguageModelDataModul"], "no class LanguageModelDataModul; did you mean LanguageModelDataModule?"),
        (["--data.contxt_length=3"], "contxt_length"),
        (["--dtype=float64"], "dtype"),
        (["--shard_samples=0"], "shard_samples=0: expected at least 1"),
        (["--data.model=./nowhere"], "model=./nowhere: there is no such folder"),
    ],
)
def test_mistakes(cache, capsys, options, expected, tmp_path):
    assert expected in mistake(capsys, cache, *options)
    assert not (tmp_path / "cache").exists()


def test_configs_merge_and_data_alone_is_enough(run_yaml, tmp_path):
    run = yaml.safe_load(run_yaml.read_text())
    Path(tmp_path / "data.yaml").write_text(yaml.safe_dump({"data": run["data"], "trainer": run["trainer"]}))
    Path(tmp_path / "more.yaml").write_text("data: {init_args: {llm_batch_size: 2}}\n")
    folder = tmp_path / "cache"
    main(["cache", "-c", str(tmp_path / "data.yaml"), "-c", str(tmp_path / "more.yaml"), "--out", str(folder)])
    assert json.loads((folder / "manifest.json").read_text())["data"]["llm_batch_size"] == 2


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1, 0)),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, (5, 8, 1)),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_LOCALID": "2"}, (2, 4, 2)),
    ],
)
def test_the_launcher_says_which_process_this_is(monkeypatch, environment, expected):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Process.from_environment() == Process(*expected)
