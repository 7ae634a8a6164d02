"""Two ranks that share each batch train the SAE that one process trains, up to the order of sums."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training import VARIANTS

import sae_lightning

SCRIPT = Path(__file__).with_name("two_processes.py")
CHECKOUT = Path(sae_lightning.__file__).parents[1]
NAMES = ["topk", "batch_topk", "relu", "jump_relu", "gated", "matryoshka", "panel"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{SCRIPT.parent}"}
    ranks = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for launcher, devices in (([sys.executable], "1"), (ranks, "2")):
        done = subprocess.run(
            [*launcher, str(SCRIPT), str(folder), devices], env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_the_package_under_test_trains_every_variant(folder):
    said = [torch.load(folder / f"{name}-{devices}.pt", weights_only=True) for name in NAMES for devices in (1, 2)]
    assert {one["package"] for one in said} == {sae_lightning.__file__}, "and not one that is installed"
    assert {one["class"] for one in said} == {*(variant.__name__ for variant in VARIANTS), "SanityPanel"}


@pytest.mark.parametrize("name", NAMES)
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
