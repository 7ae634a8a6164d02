"""Two ranks that share each batch train the SAE that one process trains, up to the order of sums."""

import pytest
import torch
from fit_in_server import call
from training import VARIANTS
from two_processes import train_all

import sae_lightning

NAMES = ["topk", "batch_topk", "relu", "jump_relu", "gated", "matryoshka", "panel", "transcoders", "crosscoders"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    for ranks in (1, 2):
        assert call(train_all, folder, folder, ranks, ranks=ranks) == [0] * ranks, (folder / "output-0.txt").read_text()
    return folder


def test_the_package_under_test_trains_every_variant(folder):
    said = [torch.load(folder / f"{name}-{devices}.pt", weights_only=True) for name in NAMES for devices in (1, 2)]
    assert {one["package"] for one in said} == {sae_lightning.__file__}, "and not one that is installed"
    assert {one["class"] for one in said} == {*(variant.__name__ for variant in VARIANTS), "SanityPanel"}


@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_train_what_one_process_trains(folder, name):
    one, two = (torch.load(folder / f"{name}-{devices}.pt", weights_only=True) for devices in (1, 2))
    assert one["dead"] == two["dead"]
    if name in ("topk", "batch_topk", "panel", "transcoders", "crosscoders"):
        assert one["dead"] > 0, "AuxK must have had something to do"
    for key, tensor in one["state"].items():
        if key.endswith("samples_since_fired"):
            assert torch.equal(tensor, two["state"][key]), key
        else:
            torch.testing.assert_close(two["state"][key], tensor, rtol=1e-3, atol=2e-5, msg=key)
