import pytest
import torch
from torch.nn.functional import normalize

from sae_lightning.saes import CovarianceMatched, DataPoints, Isotropic

D_IN = 64


def anisotropic(n):
    """Samples with variance 9 along half of some orthogonal axes and 1 along the others, and these axes as columns."""
    axes = torch.linalg.qr(torch.randn(D_IN, D_IN)).Q
    scales = torch.tensor([3.0, 1.0]).repeat_interleave(D_IN // 2)
    return (torch.randn(n, D_IN) * scales) @ axes.T + 5, axes


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def energy_along(axes, directions):
    """Mean squared component along the first half of the axes over that along the second half."""
    first, second = (directions @ axes).square().mean(0).split(D_IN // 2)
    return float(first.mean() / second.mean())


def test_covariance_matched_directions_have_the_covariance_of_the_data_and_not_its_square():
    samples, axes = anisotropic(200 * D_IN)
    directions = CovarianceMatched().directions(4096, D_IN, torch.Generator().manual_seed(0), samples)
    assert energy_along(axes, directions) == pytest.approx(9, rel=0.05)  # 81 without the square root of the covariance


def test_isotropic_directions_have_no_preferred_axes():
    _, axes = anisotropic(1)
    directions = Isotropic().directions(4096, D_IN, torch.Generator().manual_seed(0))
    assert energy_along(axes, directions) == pytest.approx(1, rel=0.05)


def test_data_points_are_used_again_only_after_all_others():
    samples, _ = anisotropic(10)
    directions = DataPoints().directions(25, D_IN, torch.Generator().manual_seed(0), samples)
    centred = torch.nn.functional.normalize(samples - samples.mean(0), dim=1)
    point = (directions @ centred.T).argmax(1)
    torch.testing.assert_close(directions, centred[point])
    assert sorted(point[:10].tolist()) == sorted(point[10:20].tolist()) == list(range(10))
    assert len(set(point[20:].tolist())) == 5


def test_covariance_matched_directions_before_their_norm_have_the_covariance_of_the_data(monkeypatch):
    """Entry by entry, from the rows that are normalised: neither its square, nor its root, nor another scale passes."""
    rows = []
    monkeypatch.setattr("sae_lightning.saes.init.normalize", lambda x, dim: rows.append(x) or normalize(x, dim=dim))
    samples, _ = anisotropic(200 * D_IN)
    CovarianceMatched().directions(2**14, D_IN, torch.Generator().manual_seed(0), samples)
    expected = samples.double().T.cov(correction=0)
    torch.testing.assert_close(rows[0].T @ rows[0] / len(rows[0]), expected, rtol=0, atol=0.05 * expected.max().item())
    assert rows[0].mean(0).abs().max() < 0.05, "about zero, wherever the data lie"


@pytest.mark.parametrize("ratio", [4.0, 100.0])
def test_covariance_matched_directions_along_two_axes(ratio):
    """With standard deviations a and b, the mean square of a unit row along the first axis is a / (a + b)."""
    samples = torch.randn(20_000, 2) * torch.tensor([ratio**0.5, 1.0]) + 7
    directions = CovarianceMatched().directions(20_000, 2, torch.Generator().manual_seed(0), samples)
    assert directions[:, 0].square().mean().item() == pytest.approx(ratio**0.5 / (ratio**0.5 + 1), abs=0.01)


def test_data_point_directions_point_away_from_the_mean_of_the_data():
    samples, _ = anisotropic(2000)
    directions = DataPoints().directions(1000, D_IN, torch.Generator().manual_seed(0), samples)
    assert directions.mean(0).norm() < 0.1
    assert not torch.equal(directions, DataPoints().directions(1000, D_IN, torch.Generator().manual_seed(1), samples))


def test_the_estimate_takes_as_many_samples_as_it_says():
    assert CovarianceMatched().n_samples(D_IN) == 20 * D_IN
    assert CovarianceMatched(7).n_samples(D_IN) == 7 * D_IN
    assert Isotropic().n_samples(D_IN) == 0
