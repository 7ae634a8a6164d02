"""A rank freezes, is killed or fails: the other one stops and says so. A slow one is let be."""

import re
import signal
import time
from pathlib import Path

import pytest
from fit_in_server import launch

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
    - {class_path: fit_in_server.EndOfOneRank, init_args: {how: %s}}
"""


def run(folder, how, *arguments):
    (folder / "run.yaml").write_text(RUN % how)
    return launch(folder, "fit", "--config", "run.yaml", *arguments)


def ends(pid):
    """Whether a process ends within 20 s; it may stay a zombie where nobody asks for its exit code."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
def test_a_slow_rank_is_waited_for(tmp_path):
    code, errors = run(tmp_path, "is_slow", "--data.train_samples", "1920")
    assert code == 0, errors[-3000:]
    assert "stops:" not in errors
    assert (tmp_path / "lightning_logs/runs/version_0/checkpoints/step=30.ckpt").exists()


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_both_with_a_checkpoint(tmp_path):
    code, errors = run(tmp_path, "SIGTERM")
    assert code == 128 + signal.SIGTERM, errors[-3000:]
    assert "stops:" not in errors
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
    code, errors = run(tmp_path, end)
    assert code not in (0, 2), errors[-3000:]
    lines = errors.splitlines()
    told = next((number for number, line in enumerate(lines) if line.startswith("rank 0 (")), None)
    assert told is not None, errors[-3000:]
    assert any(reason in lines[told] for reason in reasons), lines[told]
    folder = "lightning_logs/runs/version_0"
    assert lines[told + 2] == f"  sae fit --config {folder}/config.yaml --ckpt_path {folder}/checkpoints/step=20.ckpt"
    rank_1 = re.search(r"rank 1 \(.*pid (\d+)\)", lines[told])
    assert rank_1 is None or ends(int(rank_1[1])), "a frozen rank would stay forever"
