"""The decoder that reconstructs activations best from latents that are given: least squares with a ridge penalty.

    minimise over W, b:  sum over samples ||x - z W - b||^2 + ridge ||W||^2

The latents z are sparse, and a dense [n, d_sae] is never made. Few latents: the Cholesky factor of the Gram matrix
z^T z. Many: conjugate gradients (Hestenes and Stiefel 1952) on z itself, for many columns of x side by side, scaled by
the diagonal of the Gram matrix. How strong the penalty has to be is found on samples that were not fitted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.code import Code
from sae_lightning.kernels import sparse_decode, transposed_times
from sae_lightning.kernels.sparse import is_dense

DIRECT_LIMIT = 6144
"""Most latents for which the Gram matrix is made: 0.3 GB in float64."""
STRENGTHS = (25.0, 5.0, 1.0, 0.2, 0.04)
"""Penalties that are tried, in units of the mean squared norm of the latents of a sample; from the strongest on."""
_SHARE_FITTED = 0.8
_TOLERANCE, _MOST_ITERATIONS = 1e-3, 50
_ROWS = 4096
_ENTRIES, _DEVICE_ENTRIES = 2**21, 2**28
"""Weights that are fitted at a time by conjugate gradients, on a CPU and elsewhere."""


@dataclass(frozen=True)
class LinearDecoder:
    """Weights and intercept: x_hat = z @ weights + intercept.

    Args:
        weights: [d_sae, d_in]; zero for a latent that is never active.
        intercept: [d_in].
        ridge: the penalty that was used, in units of the latents squared.
    """

    weights: Float[Tensor, "d_sae d_in"]
    intercept: Float[Tensor, " d_in"]
    ridge: float

    def squared_error(self, code: Code, x: Float[Tensor, "n d_in"]) -> float:
        """Return the sum of squared errors over all samples."""
        x_hat = decode_in_blocks(code, self.weights)
        return float((x - x_hat - self.intercept).square().sum(dtype=torch.float64))


def decode_in_blocks(code: Code, weights: Float[Tensor, "d_sae d_in"]) -> Float[Tensor, "n d_in"]:
    """Return z @ weights, without making a large matrix dense where many latents are active."""
    return torch.cat([sparse_decode(block.values, block, weights) for block in _blocks(code)])


def _blocks(code: Code) -> list[Code]:
    """Return the code, in parts of its rows where products of it go through a dense matrix."""
    if not is_dense(code, code.values.dtype):
        return [code]
    return [code.take(rows) for rows in torch.arange(code.batch_size, device=code.values.device).split(_ROWS)]


def _transposed(blocks: Sequence[Code], x: Float[Tensor, "n d_in"]) -> Float[Tensor, "d_sae d_in"]:
    """Return z^T @ x, the code in parts."""
    parts = x.split([block.batch_size for block in blocks])
    first, *others = (transposed_times(b.values.to(x.dtype), b, part) for b, part in zip(blocks, parts, strict=True))
    for other in others:
        first += other
    return first


Solver = Callable[[float, Tensor | None], LinearDecoder]
"""Return the decoder for a penalty, given weights that are near if there are any."""


def fit_decoder(
    code: Code, x: Float[Tensor, "n d_in"], strengths: Sequence[float] = STRENGTHS, direct_limit: int = DIRECT_LIMIT
) -> LinearDecoder:
    """Return the decoder of these latents, with the penalty that is best on a fifth of the samples.

    Once it is chosen, all samples are fitted. With several strengths the search ends where a weaker penalty is worse.

    Args:
        code: latents of n samples, two or more.
        x: what they are to reconstruct.
        strengths: penalties relative to the mean squared norm of the latents of a sample, the strongest first.
        direct_limit: most latents for which the Gram matrix is made; conjugate gradients are used above it.

    Raises:
        ValueError: if there are fewer than two samples.
    """
    n = len(x)
    if n < 2:
        raise ValueError(f"{n} samples: expected two or more, some to fit and some to choose the penalty by")
    n_fitted = min(n - 1, max(1, round(_SHARE_FITTED * n)))
    rows = torch.arange(n, device=x.device)
    solver = _solver(code.take(rows[:n_fitted]), x[:n_fitted], direct_limit)
    held_out, x_held_out = code.take(rows[n_fitted:]), x[n_fitted:]
    unit = float(code.values.square().sum(dtype=torch.float64)) / n
    if unit == 0:
        return LinearDecoder(x.new_zeros(code.d_sae, x.shape[1]), x.mean(0), 0.0)
    best = solver(strengths[0] * unit, None)
    least = best.squared_error(held_out, x_held_out)
    for strength in strengths[1:]:
        fitted = solver(strength * unit, best.weights)
        error = fitted.squared_error(held_out, x_held_out)
        if error > least:
            break
        best, least = fitted, error
    return _solver(code, x, direct_limit)(best.ridge, best.weights)


def ridge_regression(
    code: Code,
    x: Float[Tensor, "n d_in"],
    ridge: float,
    direct_limit: int = DIRECT_LIMIT,
    tolerance: float = _TOLERANCE,
) -> LinearDecoder:
    """Return the decoder of these latents for one penalty.

    Args:
        code: latents.
        x: what they are to reconstruct.
        ridge: penalty in units of the latents squared, above 0 unless the Gram matrix is regular.
        direct_limit: most latents for which the Gram matrix is made.
        tolerance: of conjugate gradients: the residual of the normal equations relative to their right side.
    """
    return _solver(code, x, direct_limit, tolerance)(ridge, None)


def _solver(code: Code, x: Tensor, direct_limit: int, tolerance: float = _TOLERANCE) -> Solver:
    if code.d_sae <= direct_limit:
        return _direct(code, x)
    return _iterative(code, x, tolerance)


def _direct(code: Code, x: Tensor) -> Solver:
    """Return the solver by the Gram matrix of centred latents, computed once in float64."""
    n, mean = len(x), x.double().mean(0)
    latent_mean = code.sum_by_latent(code.values.double()) / n
    gram = _gram(code) - n * torch.outer(latent_mean, latent_mean)
    right = _transposed(_blocks(code), x).double() - n * torch.outer(latent_mean, mean)

    def solve(ridge: float, near: Tensor | None) -> LinearDecoder:
        system = gram.clone()
        system.diagonal().add_(ridge)
        # A latent that is never active has an empty row: any number on the diagonal gives it zeros.
        system.diagonal().add_((gram.diagonal() <= 0) & (ridge == 0))
        weights = torch.cholesky_solve(right, torch.linalg.cholesky(system))
        return LinearDecoder(weights.to(x.dtype), (mean - latent_mean @ weights).to(x.dtype), ridge)

    return solve


def _gram(code: Code) -> Float[Tensor, "d_sae d_sae"]:
    """Return z^T z in float64."""
    if code.values.device.type == "cpu":
        from scipy.sparse import csr_array

        entries = (code.values.double().numpy(), code.indices.numpy(), code.offsets.numpy())
        z = csr_array(entries, shape=(code.batch_size, code.d_sae))
        return torch.from_numpy((z.T @ z).toarray())
    gram = torch.zeros(code.d_sae, code.d_sae, dtype=torch.float64, device=code.values.device)
    for rows in torch.arange(code.batch_size, device=code.values.device).split(_ROWS):
        z = code.take(rows).to_dense().double()
        gram.addmm_(z.T, z)
    return gram


def _iterative(code: Code, x: Tensor, tolerance: float) -> Solver:
    """Return the solver by conjugate gradients on sparse latents, centred without being changed."""
    code = code.with_values(code.values.to(x.dtype))
    blocks = _blocks(code)
    n, mean = len(x), x.mean(0)
    latent_mean = code.sum_by_latent(code.values) / n
    n_columns = max(1, (_ENTRIES if x.device.type == "cpu" else _DEVICE_ENTRIES) // code.d_sae)
    diagonal = code.sum_by_latent(code.values.square()) - n * latent_mean.square()

    def solve(ridge: float, near: Tensor | None) -> LinearDecoder:
        def normal(weights: Tensor) -> Tensor:
            x_hat = torch.cat([sparse_decode(block.values, block, weights) for block in blocks])
            return _transposed(blocks, x_hat.sub_(latent_mean @ weights)).add_(weights, alpha=ridge)

        # A latent that is never active has a zero diagonal and a zero right side.
        scale = (diagonal + ridge).clamp_min(torch.finfo(x.dtype).tiny)
        weights = x.new_zeros(code.d_sae, x.shape[1]) if near is None else near.clone()
        # Columns have nothing to do with each other, and few of them at a time stay in the cache.
        for part, columns in zip(weights.split(n_columns, 1), x.split(n_columns, 1), strict=True):
            right = _transposed(blocks, columns - columns.mean(0))
            part.copy_(
                _conjugate_gradients(normal, right, scale, part.clone(memory_format=torch.contiguous_format), tolerance)
            )
        return LinearDecoder(weights, mean - latent_mean @ weights, ridge)

    return solve


def _conjugate_gradients(
    normal: Callable[[Tensor], Tensor],
    right: Float[Tensor, "d_sae d_in"],
    scale: Float[Tensor, " d_sae"],
    weights: Float[Tensor, "d_sae d_in"],
    tolerance: float,
) -> Float[Tensor, "d_sae d_in"]:
    """Return weights with `normal(weights) = right`, each column by conjugate gradients of its own.

    Args:
        normal: multiplies by a positive definite matrix.
        right: right side.
        scale: diagonal of that matrix, by which the residual is divided.
        weights: where to start; changed in place.
        tolerance: residual at which to end, as a share of the right side; after `_MOST_ITERATIONS` it ends anyway.
    """
    residual = right - normal(weights)
    enough = tolerance * torch.linalg.vector_norm(right)
    scaled = residual / scale[:, None]
    direction = scaled.clone()
    product = (residual * scaled).sum(0)
    for _ in range(_MOST_ITERATIONS):
        if torch.linalg.vector_norm(residual) <= enough:
            break
        image = normal(direction)
        step = _ratio(product, (direction * image).sum(0))
        weights.addcmul_(direction, step)
        residual.addcmul_(image, step, value=-1)
        torch.div(residual, scale[:, None], out=scaled)
        previous, product = product, (residual * scaled).sum(0)
        direction.mul_(_ratio(product, previous)).add_(scaled)
    return weights


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return a ratio for each column, and 0 for columns that are solved already."""
    return torch.where(denominator > 0, numerator / denominator, 0.0)
