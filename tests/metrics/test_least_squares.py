"""Fitted decoders against dense ridge regression in float64."""

import numpy as np
import pytest
import torch

from sae_lightning.code import Code
from sae_lightning.metrics import least_squares
from sae_lightning.metrics.least_squares import fit_decoder, ridge_regression

DIRECT, ITERATIVE = 100, 1
either = pytest.mark.parametrize("limit", [DIRECT, ITERATIVE], ids=["direct", "iterative"])
sparse_or_dense = pytest.mark.parametrize("density", [0.08, 0.5])


def problem(density=0.08, n=400, d_sae=30, d_in=6, noise=0.3, dtype=torch.float64):
    """Latents, of which the last never fires, and activations that depend on them."""
    generator = torch.Generator().manual_seed(0)
    z = torch.rand(n, d_sae, generator=generator, dtype=dtype) * (torch.rand(n, d_sae, generator=generator) < density)
    z[:, -1] = 0
    weights = torch.randn(d_sae, d_in, generator=generator, dtype=dtype)
    return z, z @ weights + 2 + noise * torch.randn(n, d_in, generator=generator, dtype=dtype)


def dense_ridge(z, x, ridge):
    """By lstsq on centred latents with rows for the penalty."""
    z, x = z.numpy(), x.numpy()
    rows = np.concatenate([z - z.mean(0), ridge**0.5 * np.eye(z.shape[1])])
    weights = np.linalg.lstsq(rows, np.concatenate([x - x.mean(0), np.zeros((z.shape[1], x.shape[1]))]), rcond=None)[0]
    return weights, x.mean(0) - z.mean(0) @ weights


@either
@sparse_or_dense
@pytest.mark.parametrize("ridge", [0.0, 0.5, 20.0])
def test_ridge_regression_is_that_of_numpy(limit, density, ridge, monkeypatch):
    monkeypatch.setattr(least_squares, "_ROWS", 150)  # several blocks where the code is dense
    z, x = problem(density)
    fitted = ridge_regression(Code.from_dense(z), x, ridge, limit, tolerance=1e-12)
    weights, intercept = dense_ridge(z, x, ridge)
    np.testing.assert_allclose(fitted.weights, weights, atol=1e-7)
    np.testing.assert_allclose(fitted.intercept, intercept, atol=1e-7)
    assert not fitted.weights[-1].any()


@either
def test_float32_is_near(limit):
    z, x = problem()
    fitted = ridge_regression(Code.from_dense(z.float()), x.float(), 0.5, limit, tolerance=1e-5)
    np.testing.assert_allclose(fitted.weights, dense_ridge(z, x, 0.5)[0], atol=1e-3)


@either
@pytest.mark.parametrize(("noise", "n"), [(0.05, 400), (3.0, 60)])
def test_the_penalty_is_the_one_that_is_best_on_other_samples(limit, noise, n):
    z, x = problem(n=n, noise=noise)
    code = Code.from_dense(z)
    fitted = fit_decoder(code, x, direct_limit=limit)
    unit = float(z.square().sum()) / n
    rows = torch.arange(n)
    fitted_rows, others = rows[: round(0.8 * n)], rows[round(0.8 * n) :]
    errors = {}
    for strength in least_squares.STRENGTHS:
        weights, intercept = dense_ridge(z[fitted_rows], x[fitted_rows], strength * unit)
        errors[strength] = float(np.square(x[others].numpy() - z[others].numpy() @ weights - intercept).sum())
    best = min(errors, key=errors.get)
    assert fitted.ridge == pytest.approx(best * unit)
    np.testing.assert_allclose(
        fitted.weights, dense_ridge(z, x, best * unit)[0], atol=0.02 * float(fitted.weights.max())
    )
    assert (best < 1) == (noise < 1)


@either
def test_no_latent_is_active(limit):
    x = torch.randn(5, 3)
    code = Code.from_dense(torch.zeros(5, 7))
    fitted = fit_decoder(code, x, direct_limit=limit)
    assert not fitted.weights.any()
    torch.testing.assert_close(fitted.intercept, x.mean(0))
    assert fitted.squared_error(code, x) == pytest.approx(float((x - x.mean(0)).square().sum()))
    with pytest.raises(ValueError, match="1 samples: expected two or more"):
        fit_decoder(code.take(torch.tensor([0])), x[:1])
