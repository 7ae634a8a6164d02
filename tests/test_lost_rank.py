"""A rank that freezes, is killed or fails in the middle of training: the other one stops and says so."""

import os
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

from sae_lightning.cli import main
from lightning.pytorch import Callback


class End(Callback):
    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == 25 and trainer.global_rank == 1:
            if sys.argv[1] == "fails":
                raise ValueError("the loss is nan")
            os.kill(os.getpid(), getattr(signal, sys.argv[1]))


if __name__ == "__main__":
    main(["fit", "--config", "run.yaml"])
"""


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("SIGSTOP", "has not been heard of for 3 s"),
        pytest.param("SIGKILL", "its connection to another rank broke", marks=pytest.mark.slow),
        pytest.param("fails", "failed with ValueError: the loss is nan", marks=pytest.mark.slow),
    ],
)
def test_the_other_rank_stops_and_says_why(tmp_path, end, reason):
    (tmp_path / "run.yaml").write_text(RUN)
    (tmp_path / "end.py").write_text(END)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "end.py", end], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode not in (0, 2), done.stderr[-3000:]
    lines = done.stderr.splitlines()
    told = next((number for number, line in enumerate(lines) if line.startswith("rank 0 (")), None)
    assert told is not None, done.stderr[-3000:]
    assert reason in lines[told]
    run = "lightning_logs/runs/version_0"
    assert lines[told + 2] == f"  sae fit --config {run}/config.yaml --ckpt_path {run}/checkpoints/step=20.ckpt"
