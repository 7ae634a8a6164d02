"""Massive activations are left out of everything that a datamodule gives, and the data say so and go on from there.

The model has a sink: the activation at position 1 of each row is a hundred times as long as the others, and all others
are those of the same model without it.
"""

import json
from pathlib import Path

import pytest
import tiny
import torch
from lightning.pytorch import Trainer

from sae_lightning.datamodules import CachedActivations, FileText, LanguageModelDataModule
from sae_lightning.datamodules.cache.manifest import MANIFEST
from sae_lightning.datamodules.cache.writer import CacheWriter
from sae_lightning.datamodules.norms import FILE_NAME, read_norms
from sae_lightning.evaluators import Reconstruction
from sae_lightning.evaluators.loss_recovered import token_losses
from sae_lightning.metrics import TokenLoss
from sae_lightning.runs import Run
from sae_lightning.saes import BatchTopK, CovarianceMatched, TopK
from sae_lightning.sources import GaussianMatched

SIZES = {"batch_size": 32, "train_samples": 640, "val_samples": 96, "loss_samples": 64, "buffer_samples": 128}
SIZES |= {"context_length": 16, "llm_batch_size": 4}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sink")
    for name, sink in (("sink", 100.0), ("clean", 1.0)):
        tiny.save_sink_lm(folder / name, sink)
    tiny.save_text(folder / "text.jsonl", 150)
    return folder


@pytest.fixture
def make(folder):
    def make(model="sink", **kwargs):
        text = FileText(str(folder / "text.jsonl"), heldout_every=5)
        return LanguageModelDataModule(str(folder / model), "transformer.drop", text, **SIZES | kwargs)

    return make


def equal(a, b):
    return len(a) == len(b) > 0 and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def without_positions(make, n):
    """The data of the model without the sink, without the first positions of each row."""
    return make("clean", skip_first_positions=n)


def test_streams_and_samples_are_those_of_the_model_without_the_sink(make):
    data, other = make(), without_positions(make, 2)
    for one in (data, other):
        one.setup("fit")
    assert equal(list(data.train_dataloader()), list(other.train_dataloader()))
    assert equal(list(data.val_dataloader()), list(other.val_dataloader()))
    assert torch.equal(data.calibration_sample(300), other.calibration_sample(300))
    n_massive, n = data.massive_in_validation()
    assert 0 < n_massive < n / 10
    n_massive, n = data.massive_in_training()
    assert n_massive == pytest.approx(n / 15, rel=0.1)
    kept = make(max_norm_ratio=None)
    assert kept.calibration_sample(300).norm(dim=1).max() > 100
    assert other.massive_in_training()[0] == 0


def test_skipped_positions_are_not_valid_anywhere(make):
    data = make(skip_first_positions=3)
    inputs = next(iter(data.validation_inputs()))
    assert not inputs.mask[:, :3].any()
    assert inputs.mask[:, 3:].any(0).all()
    assert not data.packing.mask(torch.tensor([5, 6, 7, 8]))[:3].any()
    assert torch.equal(data.heldout_rows(50).mask[:, :3], torch.zeros(len(data.heldout_rows(50).mask), 3, dtype=bool))
    assert data.massive.norms[""].n_massive == 0
    for n in (-1, 16):
        with pytest.raises(ValueError, match=f"skip_first_positions={n}: expected a whole number, 0 or more, and less"):
            make(skip_first_positions=n)


def test_the_sink_is_described_once(make, caplog):
    data = make()
    data.setup("fit")
    with caplog.at_level("INFO"):
        data.train_dataloader()
        data.val_dataloader()
    (line,) = [record.message for record in caplog.records if "Massive" in record.message]
    norms = data.massive.norms[""]
    assert f"{norms.n_massive:,} of the first {norms.n:,} tokens ({norms.n_massive} at position 1" in line
    assert norms.variance_share > 0.9


def trainer(folder, callbacks=(), **kwargs):
    settings = {"max_epochs": 1, "logger": False, "enable_checkpointing": False, "num_sanity_val_steps": 0}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return Trainer(default_root_dir=folder, callbacks=list(callbacks), **settings | quiet | kwargs)


def fitted(data, folder, **kwargs):
    """Scores by metric of an SAE that started from the data and was trained on them."""
    sae = BatchTopK(16, k=4, d_sae=32, scale_input=True, init=CovarianceMatched())
    run = trainer(folder, [Reconstruction()], log_every_n_steps=5, **kwargs)
    run.fit(sae, datamodule=data)
    return {name: float(value) for name, value in run.callback_metrics.items()}, sae


def test_explained_variance_is_that_of_the_model_without_the_sink(make, tmp_path):
    scores, sae = fitted(make(), tmp_path)
    clean, other = fitted(without_positions(make, 2), tmp_path)
    for name, tensor in sae.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    name = "val/explained_variance/trained/0"
    assert scores[name] == pytest.approx(clean[name], abs=1e-9)
    assert scores["val/massive_fraction/trained/0"] == pytest.approx(1 / 15, rel=0.3)
    assert not any("massive" in name for name in clean)


def test_the_loss_is_that_of_all_tokens_with_the_sink_in_place(make):
    data, sae = make(), TopK(16, k=4, d_sae=32)
    losses = token_losses(data, sae)[""]
    transformer, expected = data.source.model.transformer, TokenLoss()
    for inputs in data.validation_inputs():
        keep = ~inputs.mask
        keep[:, :2] = True
        clean = data.source.model(inputs.input_ids).logits
        zero = transformer.drop.register_forward_hook(lambda *args, keep=keep: args[2] * keep[..., None])
        expected.update(data.source.model(inputs.input_ids).logits, clean, inputs.input_ids, inputs.mask)
        zero.remove()
    for name, value in expected.compute().items():
        torch.testing.assert_close(losses["zero"].compute()[name], value)
    assert losses["zero"].compute()["ce"] != losses["clean"].compute()["ce"]


def test_kept_sinks_are_reported_with_and_without(make, tmp_path):
    scores, _ = fitted(make(max_norm_ratio=None), tmp_path)
    assert "val/massive_fraction/trained/0" not in scores
    assert scores["val/explained_variance_without_massive/trained/0"] != pytest.approx(
        scores["val/explained_variance/trained/0"], abs=0.05
    )
    assert scores["val/explained_variance_without_massive/floor"] == 0


def test_a_resumed_run_has_the_bits_of_the_whole_one(make, tmp_path):
    class Stop(Reconstruction):
        def on_train_batch_end(self, trainer, *args):
            if trainer.global_step == 9:
                trainer.save_checkpoint(tmp_path / "at.ckpt")

    def fit(data, **kwargs):
        sae = TopK(16, k=4, d_sae=32, scale_input=True)
        trainer(tmp_path, [Stop()], limit_val_batches=0).fit(sae, datamodule=data, **kwargs)
        return sae.state_dict()

    whole = fit(make())
    data = make()
    data.checkpoint = tmp_path / "at.ckpt"
    data.massive._measure = lambda _: pytest.fail("the norms were measured anew")
    resumed = fit(data, ckpt_path=tmp_path / "at.ckpt")
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())
    with pytest.raises(ValueError, match="max_norm_ratio=None: the run that is resumed has 10.0"):
        fit(make(max_norm_ratio=None), ckpt_path=tmp_path / "at.ckpt")
    checkpoint = torch.load(tmp_path / "at.ckpt", weights_only=True)
    checkpoint["LanguageModelDataModule"]["massive"]["norms"][""]["median"] = 3.25
    torch.save(checkpoint, tmp_path / "other.ckpt")
    other = make()
    fit(other, ckpt_path=tmp_path / "other.ckpt")
    assert other.massive.limit() == 32.5, "the number of the checkpoint counts"
    del checkpoint["LanguageModelDataModule"]["massive"]
    torch.save(checkpoint, tmp_path / "old.ckpt")
    old = make()
    fit(old, ckpt_path=tmp_path / "old.ckpt")
    assert not old.massive.leaves_out, "a run from before the rule has left out nothing"


def test_counts_continue_after_a_resume(make):
    data = make()
    loader = iter(data.train_dataloader())
    for _ in range(5):
        next(loader)
    other = make()
    other.load_state_dict(data.state_dict())
    other.train_dataloader()
    assert other.massive_in_training() == data.massive_in_training() != (0, 0)


def test_held_out_batches_are_as_many_as_there_are(make, folder, tmp_path):
    """A text that has just enough tokens has fewer batches without its massive ones, and they are counted."""
    for n_documents, val_samples in ((149, 96), (60, 10_000)):
        text = FileText(str(folder / "text.jsonl"), heldout=tiny.save_text(tmp_path / "few.jsonl", n_documents))
        sizes = SIZES | {"val_samples": val_samples}
        data = LanguageModelDataModule(str(folder / "sink"), "transformer.drop", text, **sizes)
        data.setup("fit")
        loader = data.val_dataloader()
        assert len(list(loader)) == len(loader) == min(sum(map(len, data._heldout_activations())), val_samples) // 32
    assert len(loader) < int(data.n_valid(data._heldout_rows()).sum()) // 32, "the sinks matter here"


@pytest.fixture(scope="session")
def caches(folder, tmp_path_factory):
    """Two caches of the same data, without and with massive activations."""
    paths = {}
    for name, ratio in (("without", 10.0), ("with", None)):
        data = {"model": str(folder / "sink"), "hook": "transformer.drop", "hook_input": False, "revision": None}
        data |= {"dtype": "auto", "tokenizer": None, "bos_in_every_row": True, "max_norm_ratio": ratio}
        data |= {"context_length": 16, "llm_batch_size": 4}
        text = FileText(str(folder / "text.jsonl"), heldout_every=5)
        datamodule = LanguageModelDataModule(text=text, **SIZES | data)
        paths[name] = str(tmp_path_factory.mktemp("cache") / name)
        assert CacheWriter(datamodule, data, paths[name], shard_samples=200).write()
    return paths


SMALL = {name: SIZES[name] for name in ("batch_size", "train_samples", "val_samples", "loss_samples", "buffer_samples")}


@pytest.mark.parametrize("name", ["without", "with"])
def test_a_cache_gives_the_batches_of_the_stream(make, caches, name):
    data, cache = make(), CachedActivations(caches[name], "stream", **SMALL)
    for one in (data, cache):
        one.setup("fit")
    assert cache.massive.limit() == data.massive.limit()
    assert equal(list(data.train_dataloader()), list(cache.train_dataloader()))
    assert equal(list(data.val_dataloader()), list(cache.val_dataloader()))
    assert torch.equal(data.calibration_sample(200), cache.calibration_sample(200))
    for ours, theirs in zip(data.validation_inputs(), cache.validation_inputs(), strict=True):
        assert torch.equal(ours.mask, theirs.mask)
        assert torch.equal(data.source.capture(ours)[1], cache.source.capture(theirs)[1])
        edited = [each.source.replace(ours, torch.zeros_like) for each in (data, cache)]
        assert torch.equal(*edited)
    n_massive, n = cache.massive_in_training()
    assert n_massive == pytest.approx(n / 15, rel=0.1)


def test_a_shuffled_cache_serves_each_kept_row_once(caches):
    drawn = {}
    for name, path in caches.items():
        cache = CachedActivations(path, **SMALL)
        n = len(cache._cached("train"))
        stream, rows = cache.train_stream(), []
        while sum(map(len, rows)) < n:
            rows.append(next(stream))
        drawn[name] = torch.cat(rows)[:n]
        assert drawn[name].norm(dim=1).max() < 30
        in_order = cache._cached("train").slice(0, n)
        assert equal(*([rows[rows[:, 0].argsort()]] for rows in (drawn[name], in_order)))
    n = min(map(len, drawn.values()))  # the cache without them was made from more text
    slices = [CachedActivations(path, **SMALL)._cached("train").slice(0, n) for path in caches.values()]
    assert torch.equal(*slices)


def test_what_the_manifest_says(make, caches, tmp_path):
    manifest = json.loads((Path(caches["without"]) / MANIFEST).read_text())
    assert manifest["massive"]["norms"][""]["median"] == make().massive.norms[""].median
    assert manifest["counts"]["massive"] == sum(
        shard["massive"] for shard in manifest["shards"] if "train" in shard["file"]
    )
    assert manifest["counts"]["massive"] > 0
    with pytest.raises(ValueError, match="was written without activations above 10 times the median"):
        CachedActivations(caches["without"], max_norm_ratio=None, **SMALL)
    kept = CachedActivations(caches["with"], max_norm_ratio=None, **SMALL)
    assert next(kept.val_stream()).norm(dim=1).max() > 100
    stricter = CachedActivations(caches["without"], max_norm_ratio=1.2, **SMALL)
    assert len(stricter._cached("train")) < manifest["counts"]["tokens"]


def test_a_cache_of_before_the_rule_is_read_with_it(make, caches, tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    for path in Path(caches["with"]).iterdir():
        (old / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((old / MANIFEST).read_text())
    del manifest["massive"], manifest["data"]["max_norm_ratio"]
    manifest["format_version"] = 1
    manifest["shards"] = [{k: v for k, v in shard.items() if k != "massive"} for shard in manifest["shards"]]
    (old / MANIFEST).write_text(json.dumps(manifest))
    cache, data = CachedActivations(str(old), "stream", verify="size", **SMALL), make()
    for one in (cache, data):
        one.setup("fit")
    assert cache.massive.limit() == pytest.approx(data.massive.limit(), rel=1e-2)  # of the fewer rows that it has
    assert equal(list(data.train_dataloader()), list(cache.train_dataloader()))


def test_nulls_are_of_what_is_kept(make):
    data = make(nulls={"gaussian": GaussianMatched(2)})
    x = torch.cat(list(data.train_dataloader()))
    assert x[:, :16].norm(dim=1).max() < 30
    assert x[:, 16:].norm(dim=1).max() < 30


def test_runs_keep_the_norms_for_other_commands(make, folder, tmp_path):
    """A run folder gives `sae explain` and others the norms of the run, also where its text has changed."""
    run = tmp_path / "run"
    run.mkdir()
    arguments = {name: value for name, value in SIZES.items()} | {
        "model": str(folder / "sink"),
        "hook": "transformer.drop",
        "text": {"class_path": "FileText", "init_args": {"paths": str(folder / "text.jsonl")}},
        "max_norm_ratio": 10.0,
    }
    config = {"data": {"class_path": "LanguageModelDataModule", "init_args": arguments}}
    (run / "config.yaml").write_text(json.dumps(config))
    state = make().massive.state_dict()
    state["norms"][""]["median"] = 3.25
    (run / FILE_NAME).write_text(json.dumps(state))
    assert Run(run).datamodule().massive.limit() == 32.5
    del arguments["max_norm_ratio"]
    (run / FILE_NAME).unlink()
    (run / "config.yaml").write_text(json.dumps(config))
    assert not Run(run).datamodule().massive.leaves_out, "the run is older than the rule"
    (run / FILE_NAME).write_text("{")
    with pytest.raises(ValueError, match=f"{FILE_NAME} is damaged"):
        read_norms(run)
