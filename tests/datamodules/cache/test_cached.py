"""`CachedActivations`: the same data as from the model, every row once a pass, no damaged shard in training."""

import json
import shutil
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest
import tiny
import torch
import yaml
from safetensors.torch import load_file

from sae_lightning.cli import main
from sae_lightning.datamodules import CachedActivations
from sae_lightning.datamodules.cache import source as cache_source

BATCH = 64


def cached(folder, **kwargs):
    return CachedActivations(str(folder), **{"batch_size": BATCH, "buffer_samples": 200, "loss_samples": 100} | kwargs)


def at_rank(datamodule, rank, world_size):
    device = torch.device("cpu")
    datamodule.trainer = SimpleNamespace(
        global_rank=rank, world_size=world_size, strategy=SimpleNamespace(root_device=device), ckpt_path=None
    )
    return datamodule


def batches(stream, n):
    return list(islice(stream, n))


def equal(a, b):
    return len(a) == len(b) > 0 and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def all_rows(folder, split="train"):
    return torch.cat([load_file(path)["activations"] for path in sorted(Path(folder).glob(f"{split}-*.safetensors"))])


@pytest.mark.parametrize(("rank", "world_size"), [(0, 1), (0, 2), (1, 2)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_order_stream_gives_the_batches_of_the_stream(cache, language_model, tmp_path, dtype, rank, world_size):
    model = tiny.save_tiny_lm(tmp_path / "model", dtype=dtype)
    folder = cache(f"--data.model={model}", f"--data.buffer_samples={world_size * 200}")
    live = at_rank(language_model(model=model, seed=3), rank, world_size)
    stored = at_rank(cached(folder, order="stream", seed=3), rank, world_size)
    n = 12 // world_size
    assert equal(batches(stored.train_stream(), n), batches(live.train_stream(), n))
    assert torch.equal(stored.calibration_sample(100), live.calibration_sample(100))
    if world_size == 1:
        assert equal(list(stored.val_stream())[:3], batches(live.val_stream(), 3))
    for mine, theirs in zip(stored.validation_inputs(), live.validation_inputs(), strict=True):
        assert torch.equal(mine.input_ids, theirs.input_ids)
        assert torch.equal(mine.mask, theirs.mask)
    mine, theirs = (data.heldout_rows(100) for data in (stored, live))
    assert torch.equal(mine.input_ids, theirs.input_ids)
    assert torch.equal(mine.mask, theirs.mask)


@pytest.mark.filterwarnings("ignore:.* is withheld")
def test_training_from_cache_and_stream_gives_the_same_sae(cache, run_yaml, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = yaml.safe_load(run_yaml.read_text())
    run["data"]["init_args"]["text"]["init_args"]["paths"] = tiny.save_text(tmp_path / "long.jsonl", 400)
    run_yaml.write_text(yaml.safe_dump(run))
    folder = cache("--data.train_samples=5000")  # input_scale takes 4096
    main(["fit", "--config", str(run_yaml), "--trainer.callbacks+=LossRecovered"])
    arguments = {"path": folder, "order": "stream", "batch_size": BATCH, "train_samples": 12 * BATCH}
    arguments |= {"val_samples": 3 * BATCH, "loss_samples": 100, "buffer_samples": 200}
    run["data"] = {"class_path": "CachedActivations", "init_args": arguments}
    run["trainer"]["callbacks"] = [{"class_path": "LossRecovered"}]
    (tmp_path / "cached.yaml").write_text(yaml.safe_dump(run))
    main(["fit", "--config", "cached.yaml"])
    runs = [tmp_path / f"lightning_logs/tiny/version_{i}" for i in range(2)]
    live, stored = (load_file(run / "saes/trained/0/sae.safetensors") for run in runs)
    for name, tensor in live.items():
        assert torch.equal(tensor, stored[name]), name
    assert not torch.equal(live["W_dec"], live["W_dec_start"])
    metrics = [json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["metrics"] for run in runs]
    assert metrics[0]["ce_reconstruction"] == metrics[1]["ce_reconstruction"]
    assert metrics[0] == metrics[1]


def test_every_row_once_a_pass_and_each_pass_in_another_order(cache):
    folder = cache()
    expected = all_rows(folder)
    n = len(expected)
    served = torch.cat(batches(cached(folder).train_stream(), 3 * n // BATCH + 1))
    passes = [served[:n], served[n : 2 * n], served[2 * n : 3 * n]]
    for rows in passes:
        assert torch.equal(rows[rows[:, 0].argsort()], expected[expected[:, 0].argsort()])
        assert not torch.equal(rows, expected)
    assert not torch.equal(passes[0], passes[1])
    number = {tuple(row.tolist()): i for i, row in enumerate(expected)}
    order = torch.tensor([number[tuple(row.tolist())] for row in passes[0]]).float()
    assert abs(float(torch.corrcoef(torch.stack([order[1:], order[:-1]]))[0, 1])) < 5 / n**0.5


@pytest.mark.parametrize("passes", [1, 2])
def test_several_passes_in_an_epoch_are_told(cache, caplog, passes):
    folder = cache()
    n = len(all_rows(folder))
    data = cached(folder, train_samples=passes * n)
    with caplog.at_level("INFO"):
        data.train_stream()
        data.train_stream()
    told = f"the {n:,} activations that there are to train on are read 2.0 times in an epoch"
    assert caplog.text.count(told) == (passes > 1)


@pytest.mark.parametrize("world_size", [2, 3])
def test_a_global_batch_is_one_rank_s_batch_of_that_size(cache, world_size):
    folder = cache()
    alone = batches(cached(folder, batch_size=world_size * 32).train_stream(), 40)  # through more than one pass
    ranks = [
        batches(at_rank(cached(folder, batch_size=32, buffer_samples=96), rank, world_size).train_stream(), 40)
        for rank in range(world_size)
    ]
    assert equal([torch.cat(parts) for parts in zip(*ranks, strict=True)], alone)


def test_batches_do_not_depend_on_how_they_are_read(cache):
    folder = cache()
    expected = batches(cached(folder).train_stream(), 30)
    for kwargs in ({"n_workers": 1}, {"buffer_samples": 64}, {"buffer_samples": 5000, "n_workers": 3}):
        assert equal(batches(cached(folder, **kwargs).train_stream(), 30), expected)


def test_bfloat16_stays_so_on_disk_and_is_served_as_float32(cache):
    folder = cache("--dtype=bfloat16")
    stream = cached(folder).train_stream()
    batch = next(stream)
    assert batch.dtype == torch.float32
    assert torch.equal(batch, batch.bfloat16().float())
    assert stream._buffers[0].itemsize == 2


def test_resume_in_another_cache_is_refused(cache, tmp_path):
    stream = cached(cache()).train_stream()
    next(stream)
    other = cached(cache("--dtype=bfloat16", out=tmp_path / "other")).train_stream()
    with pytest.raises(ValueError, match="written while training from another cache"):
        other.load_state_dict(stream.state_dict())


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def break_header(path):
    data = bytearray(path.read_bytes())
    data[12] = 0
    path.write_bytes(data)


def lengthen_header(path):
    data = bytearray(path.read_bytes())
    data[:8] = (2**40).to_bytes(8, "little")
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "verify", "expected"),
    [
        (Path.unlink, "size", "train-00001.safetensors is missing"),
        (cut, "size", r"train-00001.safetensors has \d+ bytes, expected \d+"),
        (break_header, "size", "train-00001.safetensors: its header is damaged"),
        (lengthen_header, "size", "train-00001.safetensors: its header is damaged"),
        (flip, "hash", r"train-00001.safetensors has another content than when it was written \(sha256\)"),
    ],
)
def test_damaged_shards_are_named_before_training(cache, damage, verify, expected):
    folder = cache()
    cached(folder, verify=verify).prepare_data()
    damage(Path(folder, "train-00001.safetensors"))
    with pytest.raises(ValueError, match=expected):
        cached(folder, verify=verify).prepare_data()
    if verify == "size":
        with pytest.raises(ValueError, match=expected):
            cached(folder).setup("fit")  # on every rank


def test_a_cache_that_is_not_complete_or_not_ours(cache, tmp_path):
    folder = Path(cache())
    manifest = json.loads((folder / "manifest.json").read_text())

    def write(**changes):
        (folder / "manifest.json").write_text(json.dumps(manifest | changes))

    write(complete=False)
    (folder / "train-00000.safetensors.json").write_text("{}")
    with pytest.raises(
        ValueError, match="not complete, 1 shards are there; continue with: sae cache --config .*run.yaml"
    ):
        cached(folder)
    write(format_version=99)
    with pytest.raises(ValueError, match=r"format_version=99, and this version of sae_lightning reads 1"):
        cached(folder)
    write(format="something")
    with pytest.raises(ValueError, match="not the manifest of a cache of activations"):
        cached(folder)
    (folder / "manifest.json").write_text('{"format": ')
    with pytest.raises(ValueError, match="manifest.json: expected JSON"):
        cached(folder)
    with pytest.raises(ValueError, match=r"nowhere: there is no manifest.json; give the folder of a cache, or make it"):
        cached(tmp_path / "nowhere")


def test_a_url_is_copied_before_training(cache, tmp_path, monkeypatch):
    local = cached(cache())
    url = "memory://bucket/cache"
    cache(out=url)
    datamodule = cached(url, local_folder=str(tmp_path / "copy"))
    datamodule.prepare_data()
    datamodule.setup("fit")
    assert equal(batches(datamodule.train_stream(), 20), batches(local.train_stream(), 20))
    (tmp_path / "copy/train-00001.safetensors").unlink()
    datamodule.prepare_data()  # fetched again
    fsspec.filesystem("memory").rm("/bucket/cache/train-00001.safetensors")
    datamodule.prepare_data()  # not asked for
    (tmp_path / "copy/train-00001.safetensors").unlink()
    with pytest.raises(ValueError, match="memory://bucket/cache: train-00001.safetensors is missing"):
        datamodule.prepare_data()
    monkeypatch.setattr("sae_lightning.datamodules.cached.free_bytes", lambda folder: 10)
    with pytest.raises(ValueError, match="local_folder=.*copy: 0.00 GB have to be copied .* give a folder on a larger"):
        datamodule.prepare_data()
    monkeypatch.chdir(tmp_path)
    assert cached(url).folder.parent == Path("data/cache")
    fsspec.filesystem("memory").rm("/bucket", recursive=True)


def test_the_model_is_loaded_when_it_is_run_and_must_be_the_same(cache, tmp_path, monkeypatch):
    model = tiny.save_tiny_lm(tmp_path / "model")
    folder = cache(f"--data.model={model}")
    loaded = []
    real = cache_source.LanguageModelSource
    monkeypatch.setattr(cache_source, "LanguageModelSource", lambda **kwargs: loaded.append(1) or real(**kwargs))
    datamodule = cached(folder)
    datamodule.setup("fit")
    next(datamodule.train_stream())
    assert datamodule.d_in == 16
    assert not loaded
    inputs = next(datamodule.validation_inputs())
    with torch.inference_mode():  # as a validation is; an evaluator may want gradients through the model afterwards
        activations, mask = datamodule.source.capture(inputs)
    assert not any(parameter.is_inference() for parameter in datamodule.source._source.model.parameters())
    datamodule.source.replace(inputs, lambda x: x)
    assert len(loaded) == 1
    assert torch.equal(activations[mask], next(datamodule.val_stream())[: int(mask.sum())])

    again = cached(folder).source
    assert again.no_next_token == ""
    assert again.is_language_model
    assert again._source is None  # its configuration says enough
    config = tmp_path / "model/config.json"
    config.write_text(config.read_text().replace("LlamaForCausalLM", "LlamaModel"))
    assert "model is a model without a language-modelling head" in again.no_next_token

    tiny.save_tiny_lm(tmp_path / "model", seed=1)
    with pytest.raises(ValueError, match="is not the one that the cache .* was made with"):
        cached(folder).source.capture(inputs)
    shutil.rmtree(model)
    datamodule = cached(folder)
    datamodule.setup("fit")
    next(datamodule.train_stream())
    for use in (lambda: datamodule.source.replace(inputs, lambda x: x), lambda: datamodule.source.no_next_token):
        with pytest.raises(
            ValueError, match=r"that of the cache .*, model=.*model, cannot be loaded: .* no such folder"
        ):
            use()


def test_wrong_arguments(cache):
    folder = cache()
    with pytest.raises(ValueError, match="buffer_samples=63: expected a whole number, 64 or more, room for a batch"):
        cached(folder, buffer_samples=63)
    with pytest.raises(
        ValueError, match="buffer_samples=127: expected at least 128, room for a batch and for forwards"
    ):
        cached(folder, order="stream", buffer_samples=127)
    with pytest.raises(ValueError, match="n_workers=0"):
        cached(folder, n_workers=0)
