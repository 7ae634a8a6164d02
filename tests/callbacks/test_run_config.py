"""What a run says of itself: `starts.jsonl`, and its verdict in TensorBoard at the end."""

import json
import subprocess

import pytest
import torch
import yaml

import sae_lightning
import sae_lightning.commands.fit  # noqa: F401 - imported in a test, Lightning would log to the stderr of that test
from sae_lightning.callbacks import run_config
from sae_lightning.cli import main
from sae_lightning.runs import starts

SETTINGS = {
    "model": {
        "class_path": "SanityPanel",
        "init_args": {
            "sae": {"class_path": "TopK", "init_args": {"d_sae": 16, "k": 2}},
            "policies": {"trained": {"class_path": "NoFreeze"}, "frozen_decoder": {"class_path": "FrozenDecoder"}},
        },
    },
    "data": {
        "class_path": "SyntheticDataModule",
        "init_args": {"d_in": 8, "n_features": 16, "batch_size": 32, "train_samples": 128, "val_samples": 64},
    },
    "trainer": {
        "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    (folder / "given.yaml").write_text(yaml.safe_dump(SETTINGS))
    precision = torch.get_float32_matmul_precision()
    main(["fit", f"--config={folder / 'given.yaml'}", f"--trainer.logger.save_dir={folder}"])
    run = folder / "runs/version_0"
    main(["fit", f"--config={run / 'config.yaml'}", f"--ckpt_path={run / 'checkpoints/last.ckpt'}"])
    torch.set_float32_matmul_precision(precision)
    return run


def test_each_start_is_one_line(run):
    first, again = starts.read_starts(run)
    assert first["command"] == again["command"] == "fit"
    assert first["time"] <= again["time"]
    assert first["versions"]["sae_lightning"] == sae_lightning.__version__
    assert first["versions"]["torch"] == torch.__version__
    assert first["devices"] == "1 x cpu"


def test_the_end_of_a_fit_is_in_tensorboard(run):
    events = list((run / "verdict").glob("events.out.tfevents.*"))
    assert events
    assert any(b"explained_variance" in path.read_bytes() for path in events)
    assert any(b"frozen_decoder" in path.read_bytes() for path in events)


def test_the_commit_is_that_of_the_code(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    file = tmp_path / "package" / "callbacks" / "run_config.py"
    file.parent.mkdir(parents=True)
    file.touch()
    (tmp_path / "package" / "__init__.py").touch()
    monkeypatch.setattr(run_config, "__file__", str(file))
    git("init")
    assert run_config.commit() is None  # it lies in a repository, and is none of its files
    git("add", "package/__init__.py")
    git("commit", "-m", "first")
    assert run_config.commit().endswith("+")  # run_config.py is new
    file.unlink()
    assert len(run_config.commit()) == 12


def test_a_line_cut_off_is_passed_over(tmp_path):
    (tmp_path / starts.STARTS_FILE).write_text(json.dumps({"time": "now"}) + '\n{"time"')
    assert starts.read_starts(tmp_path) == [{"time": "now"}]
    assert starts.read_starts(tmp_path / "older") == []
