"""The best linear map against least squares and against an independent reduced-rank regression."""

import pytest
import torch

from sae_lightning.metrics.linear_map import fit_linear_maps


def samples(n=400, noise=0.0):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 5, generator=generator) @ torch.randn(5, 5, generator=generator) + 2
    weights = torch.randn(5, 3, generator=generator)
    return x, x @ weights + 1 + noise * torch.randn(n, 3, generator=generator), weights


def test_a_linear_map_is_found():
    x, y, weights = samples()
    [fitted] = fit_linear_maps(x, y)
    torch.testing.assert_close(fitted.weights, weights, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(fitted(x), y, atol=1e-3, rtol=1e-3)


def test_a_map_of_a_rank_is_that_of_its_principal_answers():
    x, y, _ = samples(noise=0.5)
    full, two, all_of_them = fit_linear_maps(x, y, (None, 2, 7))
    assert torch.linalg.matrix_rank(two.weights, rtol=1e-4) == 2
    centred, answers = x - x.mean(0), y - y.mean(0)
    least_squares = torch.linalg.lstsq(centred, answers).solution
    directions = torch.linalg.svd(centred @ least_squares).Vh[:2]
    torch.testing.assert_close(two.weights, least_squares @ directions.T @ directions, atol=1e-3, rtol=1e-3)
    assert torch.equal(full.weights, all_of_them.weights)


def test_the_penalty_is_chosen_where_samples_are_few():
    generator = torch.Generator().manual_seed(1)
    x, noise = torch.randn(60, 40, generator=generator), torch.randn(60, 3, generator=generator)
    [fitted] = fit_linear_maps(x, noise)
    assert fitted.weights.norm() < 0.7 * torch.linalg.lstsq(x, noise).solution.norm()
    [constant] = fit_linear_maps(torch.ones(6, 2), torch.ones(6, 3))
    torch.testing.assert_close(constant(torch.ones(1, 2)), torch.ones(1, 3))
    with pytest.raises(ValueError, match="4 samples: expected five or more"):
        fit_linear_maps(x[:4], noise[:4])
