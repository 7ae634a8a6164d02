"""A dictionary whose latents lie on several ranks trains as one on one process, up to the order of sums."""

import pytest
import torch
from fit_in_server import call
from latent_ranks import cases, train_all

CLOSE = {torch.float64: 1e-10, torch.float32: 1e-6}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents")
    for ranks in (2, 1, 4):
        assert call(train_all, folder, folder, ranks, ranks=ranks) == [0] * ranks, (folder / "output-0.txt").read_text()
    return lambda ranks, what: torch.load(folder / f"{ranks}-{what}.pt", weights_only=True)


@pytest.mark.parametrize("name", [name for name, *_ in cases()])
@pytest.mark.parametrize(("ranks", "dtype"), [(2, torch.float64), (2, torch.float32), (4, torch.float64)])
def test_ranks_train_what_one_process_trains(results, name, ranks, dtype):
    one, several = (results(n, dtype)[name] for n in (1, ranks))
    assert several["dead"] == one["dead"]
    for what in ("losses", "gradients", "state", "out"):
        assert several[what].keys() == one[what].keys()
        for key, value in one[what].items():
            difference = (several[what][key] - value).abs().max()
            assert difference <= CLOSE[dtype] * value.abs().max().clamp_min(1), f"{what} {key}"


def test_auxk_and_clipping_had_something_to_do(results):
    of_topk = results(1, torch.float64)["topk"]
    assert of_topk["dead"] > 0
    assert any(key.endswith("/aux") for key in of_topk["losses"])


@pytest.mark.parametrize("name", [name for name, *_ in cases()])
@pytest.mark.parametrize("ranks", [1, 4])
def test_shards_of_two_ranks_are_read_by_any_number(results, name, ranks):
    written, read = results(2, torch.float64)[name]["state"], results(ranks, name)
    assert written.keys() == read.keys()
    assert all(torch.equal(written[key], read[key]) for key in written)
