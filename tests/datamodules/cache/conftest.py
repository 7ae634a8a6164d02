"""A tiny model, text, the YAML of a run on them, and caches of it made by the real command."""

import pytest
import tiny
import torch
import yaml

import sae_lightning.commands.fit  # noqa: F401 - imported in a test, Lightning would log to the stderr of that test
from sae_lightning.cli import main
from sae_lightning.datamodules import FileText, LanguageModelDataModule

BATCH = 64
SIZES = {
    "context_length": 16,
    "batch_size": BATCH,
    "train_samples": 12 * BATCH,
    "val_samples": 3 * BATCH,
    "loss_samples": 100,
    "buffer_samples": 200,
    "llm_batch_size": 4,
}


@pytest.fixture(autouse=True)
def _precision():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    return tiny.save_text(tmp_path_factory.mktemp("text") / "text.jsonl", 150)


@pytest.fixture
def run_yaml(tmp_path, tiny_lm, text):
    """A whole run's configuration; returns its path."""
    text = {"class_path": "FileText", "init_args": {"paths": text, "heldout_every": 5}}
    arguments = {"model": tiny_lm, "hook": "model.layers.0", "text": text, **SIZES}
    run = {
        "name": "tiny",
        "seed_everything": 0,
        "model": {"class_path": "TopK", "init_args": {"d_sae": 32, "k": 4, "scale_input": True}},
        "data": {"class_path": "LanguageModelDataModule", "init_args": arguments},
        "trainer": {
            "accelerator": "cpu",
            "val_check_interval": 6,
            "log_every_n_steps": 3,
            "enable_model_summary": False,
        },
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(run))
    return path


@pytest.fixture
def cache(run_yaml, tmp_path):
    """Runs `sae cache` on the run; returns the folder."""

    def make(*options, out=None):
        out = str(out or tmp_path / "cache")
        main(["cache", "--config", str(run_yaml), "--out", out, "--shard_samples", "128", *options])
        return out

    return make


@pytest.fixture
def language_model(tiny_lm, text):
    """The datamodule of the run, from Python."""

    def make(**kwargs):
        arguments = {"text": FileText(text, heldout_every=5)} | SIZES | kwargs
        return LanguageModelDataModule(arguments.pop("model", tiny_lm), "model.layers.0", **arguments)

    return make
