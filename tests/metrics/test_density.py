"""Known extremes, what a rotation does, and planted structure."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from sae_lightning.code import Code
from sae_lightning.metrics.density import (
    energy_curve,
    excess_kurtosis,
    gini,
    hoyer,
    massive_dimensions,
    participation_ratio,
    rms_normalise,
    share_above,
    subspace_overlap,
    support_jaccard,
    top_mass,
    unique_up_to,
)
from sae_lightning.metrics.dictionary import coherence
from sae_lightning.metrics.rotation import random_rotation

MEASURES = [participation_ratio, hoyer, excess_kurtosis, gini, top_mass, lambda x: share_above(x, 0.1)]


@pytest.fixture
def random():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("n", [7, 100, 256])
@pytest.mark.parametrize("scale", [1.0, -3.0])
def test_one_hot_and_constant_vectors_are_the_extremes(n, scale):
    x = scale * torch.stack([torch.eye(n)[n // 2], torch.ones(n)])
    exact = {"rtol": 0.0, "atol": 1e-12}
    torch.testing.assert_close(participation_ratio(x), torch.tensor([1 / n, 1.0]).double(), rtol=0, atol=1e-8)
    torch.testing.assert_close(hoyer(x), torch.tensor([1.0, 0.0]).double(), **exact)
    torch.testing.assert_close(gini(x), torch.tensor([1 - 1 / n, 0.0], dtype=torch.float64), **exact)
    torch.testing.assert_close(share_above(x, 0.1), torch.tensor([1 / n, 1.0], dtype=torch.float64), **exact)
    torch.testing.assert_close(top_mass(x), torch.tensor([1.0, math.ceil(n / 100) / n], dtype=torch.float64), **exact)


def test_gaussian_vectors(random):
    x = torch.randn(2000, 100, generator=random)
    assert hoyer(x).mean() == pytest.approx(0.22, abs=0.005)
    wide = torch.randn(200, 20_000, generator=random)
    assert participation_ratio(wide).mean() == pytest.approx(1 / 3, abs=0.002)
    assert excess_kurtosis(wide).mean() == pytest.approx(0, abs=0.01)
    assert gini(wide).mean() == pytest.approx(math.sqrt(2) - 1, abs=0.002)
    assert share_above(wide, 0.5).mean() == pytest.approx(math.erfc(0.5 / math.sqrt(2)), abs=0.002)


def test_kurtosis_is_about_the_mean():
    x = torch.tensor([[1.0, 2.0, 3.0, 10.0]])
    torch.testing.assert_close(excess_kurtosis(x + 100), excess_kurtosis(x))


@pytest.mark.parametrize("measure", MEASURES)
def test_scale_changes_nothing_and_zeros_give_nan(measure, random):
    x = torch.randn(5, 30, generator=random)
    torch.testing.assert_close(measure(7.5 * x), measure(x))
    assert measure(torch.zeros(2, 30)).isnan().all()


def test_planted_sparse_data_are_dense_along_the_axes_and_sparse_in_their_dictionary(random):
    d = 64
    planted = torch.zeros(500, d).scatter_(1, torch.rand(500, d, generator=random).topk(4, 1).indices, 1.0)
    planted = planted * (0.5 + torch.rand(500, d, generator=random))
    dictionary = random_rotation(d, random)
    x = planted @ dictionary
    assert hoyer(x).mean() < 0.3
    assert (x.abs() < 0.1 * x.square().mean(1, keepdim=True).sqrt()).double().mean() < 0.15
    codes = x @ dictionary.T
    torch.testing.assert_close(codes, planted, rtol=0, atol=1e-5)
    assert hoyer(codes).mean() > 0.8
    assert participation_ratio(codes).mean() < 4.5 / d
    assert excess_kurtosis(codes).mean() > 10


def test_rotation_keeps_norms_angles_and_spans(random):
    x, q = torch.randn(50, 20, generator=random), random_rotation(20, random)
    torch.testing.assert_close(q @ q.T, torch.eye(20), rtol=0, atol=1e-6)
    torch.testing.assert_close(rms_normalise(x @ q), rms_normalise(x) @ q, rtol=0, atol=1e-5)
    assert coherence(x @ q) == pytest.approx(coherence(x), abs=1e-5)
    other = torch.randn(50, 20, generator=random)
    assert float(subspace_overlap(x @ q, other @ q, 5)) == pytest.approx(float(subspace_overlap(x, other, 5)), abs=1e-5)


def test_energy_curve_is_that_of_sorted_squares(random):
    x = torch.randn(9, 40, generator=random)
    squares = x.double().square().sort(1, descending=True).values
    expected = torch.stack([(squares[:, :n].sum(1) / squares.sum(1)).mean() for n in (1, 4, 40)])
    torch.testing.assert_close(energy_curve(x, (0.01, 0.1, 1.0)), expected)


def test_massive_dimension_is_found(random):
    x = torch.randn(300, 32, generator=random)
    assert not massive_dimensions(x, 25.0).any()
    x[:, 7] *= 20
    assert massive_dimensions(x, 25.0).nonzero().flatten().tolist() == [7]


def test_coherence_against_all_pairs(random):
    W_dec = torch.randn(40, 10, generator=random)  # noqa: N806
    cosines = (normalize(W_dec, dim=1) @ normalize(W_dec, dim=1).T).fill_diagonal_(0)
    assert coherence(W_dec) == pytest.approx(float(cosines.abs().max()), abs=1e-6)
    assert coherence(torch.cat([W_dec, -2 * W_dec[:1]])) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("mu", "k"), [(0.51, 1), (1 / 3, 1), (0.33, 2), (0.1, 5), (1.0, 0)])
def test_codes_are_unique_strictly_below_the_bound(mu, k):
    assert unique_up_to(mu) == k
    assert k < (1 + 1 / mu) / 2 <= k + 1 + 1e-9


def test_jaccard_counts_what_fires_whatever_the_order():
    one = Code.from_rows(torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[4, 1, 3]]), 5)
    two = Code.from_rows(torch.tensor([[9.0, 1.0]]), torch.tensor([[1, 3]]), 5)
    assert support_jaccard(one, two).tolist() == pytest.approx([1 / 3])
    assert support_jaccard(one, one).tolist() == [1]


def test_random_subspaces_overlap_by_chance(random):
    overlaps = [float(subspace_overlap(*torch.randn(2, 50, 32, generator=random), 8)) for _ in range(20)]
    assert sum(overlaps) / 20 == pytest.approx(8 / 32, abs=0.03)
