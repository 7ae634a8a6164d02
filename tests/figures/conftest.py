"""Tiny runs of the real command, on data whose true features are known."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from sae_lightning.cli import main

VARIABLE = {"class_path": "LogUniformProbability", "init_args": {"log10_min": -3, "log10_max": -1}}
CONSTANT = {"class_path": "ConstantProbability", "init_args": {"p": 0.05}}


SAE = {"class_path": "BatchTopK", "init_args": {"d_sae": 24, "k": 4}}
FREEZE = {"trained": "NoFreeze", "frozen_decoder": "FrozenDecoder", "oracle": "FrozenDecoder"}
PANEL = {
    "sae": SAE,
    "seeds": [0, 1],
    "policies": {name: {"class_path": kind} for name, kind in FREEZE.items()},
    "inits": {"oracle": {"class_path": "TrueFeatures"}},
}
SIZES = {"d_in": 16, "n_features": 64, "batch_size": 64, "train_samples": 512, "val_samples": 128}
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
SETTINGS = {
    "name": "variable",
    "model": {"class_path": "SanityPanel", "init_args": PANEL},
    "data": {"class_path": "SyntheticDataModule", "init_args": SIZES | {"firing_probability": VARIABLE}},
    "trainer": QUIET | {"accelerator": "cpu", "val_check_interval": 4},
}


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A run of a panel of two seeds with 24 latents for 64 features."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "given.yaml").write_text(yaml.safe_dump(SETTINGS))
    precision = torch.get_float32_matmul_precision()
    config = f"--config={folder / 'given.yaml'}"
    main(["fit", config, "--trainer.callbacks+=Recovery", f"--trainer.logger.save_dir={folder}"])
    torch.set_float32_matmul_precision(precision)
    return folder / "variable/version_0"


@pytest.fixture
def variable(finished: Path, tmp_path: Path) -> Path:
    """A copy to draw into."""
    return Path(shutil.copytree(finished, tmp_path / "variable/version_0"))


@pytest.fixture
def constant(finished: Path, tmp_path: Path) -> Path:
    """The same, but the features of its data fire equally often."""
    folder = Path(shutil.copytree(finished, tmp_path / "constant/version_0"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["data"]["init_args"]["firing_probability"] = CONSTANT
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder
