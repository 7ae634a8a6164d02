"""Latents on images against the dense latents of all images, by one process and by two ranks."""

from types import SimpleNamespace

import pytest
import torch

from sae_lightning.datamodules import ClipImages
from sae_lightning.interpretation import latents_on_images
from sae_lightning.interpretation.image_examples import PERCENTILES, as_grid, at_percentiles
from sae_lightning.interpretation.latents_on_images import LatentsOnImages

N, SEQ, D_IN = 23, 5, 4
MASK = torch.tensor([False, True, True, True, True])


class Data(ClipImages):
    """Activations of 40 images, rounded so that latents have equals."""

    rows_at_once, batch_size = 4, 7

    def __init__(self):
        self.activations = torch.randn(40, SEQ, D_IN, generator=torch.Generator().manual_seed(0)).mul(3).round()
        self.activations[:, 0] = 100.0
        self.source = self
        self.n_read = 0

    def inputs(self, rows):
        self.n_read += len(rows)
        return SimpleNamespace(rows=rows[:, 0], mask=MASK.expand(len(rows), -1))

    def capture(self, inputs):
        return self.activations[inputs.rows], inputs.mask


@pytest.fixture
def data():
    return Data()


@pytest.fixture
def numbers():
    return torch.randperm(40, generator=torch.Generator().manual_seed(1))[:N]


@pytest.fixture
def latents(data, numbers):
    readers = {"relu/0": lambda x: (x - 2).relu()[:, :3], "linear/0": lambda x: -x}
    return LatentsOnImages(data, torch.device("cpu"), numbers, readers)


def dense(data, numbers, name):
    x = data.activations[numbers][:, MASK]
    return (x - 2).relu()[..., :3] if name == "relu/0" else -x


class MetError(Exception):
    """A rank waits for the others."""


def in_two_ranks(monkeypatch, ask):
    """What each of two ranks gets, which meet once, to gather."""
    own = []

    def wait(value):
        own.append(value)
        raise MetError

    monkeypatch.setattr(latents_on_images, "world_size", lambda: 2)
    monkeypatch.setattr(latents_on_images, "all_gather_object", wait)
    for rank in range(2):
        monkeypatch.setattr(latents_on_images, "rank", lambda rank=rank: rank)
        with pytest.raises(MetError):
            ask()
    monkeypatch.setattr(latents_on_images, "all_gather_object", lambda value: own)
    return [ask(), ask()]


@pytest.mark.parametrize("n", [1, 6, 20])
def test_the_strongest_images_of_each_latent(latents, data, numbers, n, monkeypatch):
    one = latents.strongest(n)
    for name, (values, places) in one.items():
        peaks = dense(data, numbers, name).amax(1)
        order = peaks.argsort(dim=0, descending=True, stable=True)[:n]
        assert torch.equal(places, order), "of equals the first"
        assert torch.equal(values, peaks.gather(0, order))
    assert data.n_read == N
    for found in in_two_ranks(monkeypatch, lambda: latents.strongest(n)):
        assert all(torch.equal(found[name][i], one[name][i]) for name in one for i in range(2))


def test_a_rank_may_be_without_images(latents, data, numbers, monkeypatch):
    few = LatentsOnImages(data, torch.device("cpu"), numbers[:3], latents.readers)
    one = few.strongest(2)
    for found in in_two_ranks(monkeypatch, lambda: few.strongest(2)):
        assert torch.equal(found["relu/0"][1], one["relu/0"][1])


def test_peaks_on_all_images(latents, data, numbers, monkeypatch):
    one = latents.all_peaks()
    for name, peaks in one.items():
        assert torch.equal(peaks, dense(data, numbers, name).amax(1))
    for found in in_two_ranks(monkeypatch, latents.all_peaks):
        assert all(torch.equal(found[name], one[name]) for name in one)


def test_single_latents_everywhere_on_single_images(latents, data, numbers, monkeypatch):
    wanted = [("relu/0", 20, 1), ("linear/0", 3, 2), ("relu/0", 3, 0), ("relu/0", 9, 0)]
    one = latents.everywhere(wanted)
    assert data.n_read == 3
    assert set(one) == set(wanted)
    for (name, place, latent), of in one.items():
        assert of[0] == 0
        assert torch.equal(of[1:], dense(data, numbers, name)[place, :, latent])
    for found in in_two_ranks(monkeypatch, lambda: latents.everywhere(wanted)):
        assert all(torch.equal(found[key], one[key]) for key in wanted)
    assert latents.everywhere([]) == {}


def test_percentiles_are_of_the_images_that_make_the_latent_fire():
    peaks = torch.zeros(300)
    fires = torch.randperm(300, generator=torch.Generator().manual_seed(0))[:101]
    peaks[fires] = torch.arange(1.0, 102.0)
    chosen = at_percentiles(peaks, 3)
    values = {p: [int(peaks[place]) for percentile, place in chosen if percentile == p] for p in PERCENTILES}
    assert values == {100: [101, 100, 99], 75: [77, 76, 75], 50: [52, 51, 50], 25: [27, 26, 25]}
    assert [peaks[place] for _, place in chosen] == sorted(peaks[[place for _, place in chosen]], reverse=True)


@pytest.mark.parametrize("n", [0, 1, 4, 6])
def test_few_images_are_shown_once_each(n):
    chosen = at_percentiles(torch.cat([torch.arange(1.0, n + 1), torch.zeros(5)]), 3)
    assert sorted(place for _, place in chosen) == list(range(n))
    assert len({percentile for percentile, _ in chosen}) == min(n, 4)


def test_patches_are_the_last_positions():
    assert as_grid(torch.arange(7.0), (2, 3)).tolist() == [[1, 2, 3], [4, 5, 6]]
