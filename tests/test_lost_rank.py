"""A rank freezes, is killed or fails: the other one stops and says so. A slow one is let be."""

import os
import signal
import subprocess
import sys

import pytest

RUN = """
model: {class_path: TopK, init_args: {d_sae: 32, k: 4}}
data:
  class_path: SyntheticDataModule
  init_args: {n_features: 32, d_in: 16, batch_size: 32, train_samples: 6400000, val_samples: 64}
trainer:
  accelerator: cpu
  strategy: ddp
  devices: 2
  val_check_interval: 10
  callbacks:
    - {class_path: RankWatch, init_args: {timeout_s: 3}}
    - class_path: end.End
"""

END = """
import os
import signal
import sys
import time

from sae_lightning.cli import main
from lightning.pytorch import Callback


class End(Callback):
    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == 25 and trainer.global_rank == 1:
            if sys.argv[1] == "fails":
                raise ValueError("the loss is nan")
            if sys.argv[1] == "is_slow":
                time.sleep(5)
            else:
                os.kill(os.getpid(), getattr(signal, sys.argv[1]))

    def on_fit_end(self, trainer, *args):
        if trainer.global_rank == 1:
            time.sleep(5)  # and ends late


if __name__ == "__main__":
    main(["fit", "--config", "run.yaml", *sys.argv[2:]])
"""


def run(folder, *arguments):
    (folder / "run.yaml").write_text(RUN)
    (folder / "end.py").write_text(END)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "end.py", *arguments]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_slow_rank_is_waited_for(tmp_path):
    done = run(tmp_path, "is_slow", "--data.train_samples", "1920")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "stops:" not in done.stderr
    assert (tmp_path / "lightning_logs/runs/version_0/checkpoints/step=30.ckpt").exists()


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_both_with_a_checkpoint(tmp_path):
    done = run(tmp_path, "SIGTERM")
    assert done.returncode == 128 + signal.SIGTERM, done.stderr[-3000:]
    assert "stops:" not in done.stderr
    assert (tmp_path / "lightning_logs/runs/version_0/checkpoints/interrupted.ckpt").exists()


@pytest.mark.parametrize(
    ("end", "reasons"),
    [
        # 12: where the last sign of life came while it wrote the checkpoint of step 20.
        ("SIGSTOP", ("has not been heard of for 3 s", "has not been heard of for 12 s")),
        pytest.param(
            "SIGKILL", ("its connection to another rank broke", "ended with exit code -9"), marks=pytest.mark.slow
        ),
        pytest.param("fails", ("failed with ValueError: the loss is nan",), marks=pytest.mark.slow),
    ],
)
def test_the_other_rank_stops_and_says_why(tmp_path, end, reasons):
    done = run(tmp_path, end)
    assert done.returncode not in (0, 2), done.stderr[-3000:]
    lines = done.stderr.splitlines()
    told = next((number for number, line in enumerate(lines) if line.startswith("rank 0 (")), None)
    assert told is not None, done.stderr[-3000:]
    assert any(reason in lines[told] for reason in reasons), lines[told]
    folder = "lightning_logs/runs/version_0"
    assert lines[told + 2] == f"  sae fit --config {folder}/config.yaml --ckpt_path {folder}/checkpoints/step=20.ckpt"
