"""Two ranks that share each batch train the SAE that one process trains, up to the order of sums."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parent)}
    ranks = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for launcher, devices in (([sys.executable], "1"), (ranks, "2")):
        done = subprocess.run(
            [*launcher, str(SCRIPT), str(folder), devices], env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("name", ["topk", "batch_topk", "relu", "jump_relu", "panel"])
def test_two_ranks_train_what_one_process_trains(folder, name):
    one, two = (torch.load(folder / f"{name}-{devices}.pt", weights_only=True) for devices in (1, 2))
    assert one["dead"] == two["dead"]
    if name in ("topk", "batch_topk", "panel"):
        assert one["dead"] > 0, "AuxK must have had something to do"
    for key, tensor in one["state"].items():
        if key.endswith("samples_since_fired"):
            assert torch.equal(tensor, two["state"][key]), key
        else:
            torch.testing.assert_close(two["state"][key], tensor, rtol=1e-3, atol=2e-5, msg=key)
