import math

import pytest
import torch
from torch.nn.functional import normalize

from sae_lightning.freeze import SoftFrozenDecoder
from sae_lightning.freeze.soft import project_to_cone_


def unit(*shape):
    return normalize(torch.randn(*shape, dtype=torch.float64), dim=1)


@pytest.mark.parametrize("min_cosine", [-0.5, 0.0, 0.8, 0.99])
def test_projection_is_the_nearest_unit_vector_of_the_cone(min_cosine):
    directions, start = unit(200, 5), unit(200, 5)
    projected = project_to_cone_(directions.clone(), start, min_cosine)
    torch.testing.assert_close(projected.norm(dim=1), torch.ones(200, dtype=torch.float64))
    cosine = (projected * start).sum(1)
    assert (cosine >= min_cosine - 1e-12).all()
    inside = (directions * start).sum(1) >= min_cosine
    assert torch.equal(projected[inside], directions[inside])
    # Nothing in the cone lies nearer: the angle left over is the angle to the start less that of the cone.
    expected = (directions * start).sum(1).clamp(-1, 1).arccos() - math.acos(min_cosine)
    moved = (projected * directions).sum(1).clamp(-1, 1).arccos()
    torch.testing.assert_close(moved[~inside], expected[~inside], atol=1e-6, rtol=0)
    candidates = project_to_cone_(unit(200, 5), start, min_cosine)
    assert ((candidates * directions).sum(1)[~inside] <= (projected * directions).sum(1)[~inside] + 1e-9).all()


def test_opposite_direction_goes_to_the_rim():
    start = unit(3, 5)
    projected = project_to_cone_(-start.clone(), start, 0.8)
    torch.testing.assert_close((projected * start).sum(1), torch.full((3,), 0.8, dtype=torch.float64))
    torch.testing.assert_close(projected.norm(dim=1), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("min_cosine", [-1.01, 1.5])
def test_impossible_cosine(min_cosine):
    with pytest.raises(ValueError, match="expected a number from -1 to 1, a cosine"):
        SoftFrozenDecoder(min_cosine)


def test_the_limit_of_the_paper_is_the_default():
    assert SoftFrozenDecoder().min_cosine == 0.8
