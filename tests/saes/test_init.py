import pytest
import torch

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
