"""The best linear map from what is read to what is answered: what a transcoder has to be better than.

    minimise over W, b:  sum over samples ||y - x W - b||^2 + ridge ||W||^2

of full rank, or of rank r (reduced-rank regression, Izenman 1975; with a ridge penalty Mukherjee and Zhu 2011): the
fitted values of full rank, projected onto their r principal directions. How strong the penalty has to be is found on
samples that were not fitted.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

STRENGTHS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Penalties that are tried, in units of the summed variance of x times the number of samples."""
_SHARE_FITTED = 0.8


@dataclass(frozen=True)
class LinearMap:
    """Weights and intercept: y_hat = x @ weights + intercept.

    Args:
        weights: [d_in, d_out] float32.
        intercept: [d_out] float32.
    """

    weights: Float[Tensor, "d_in d_out"]
    intercept: Float[Tensor, " d_out"]

    def __call__(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        """Return what it answers, on the device of x."""
        return torch.addmm(self.intercept.to(x.device), x.float(), self.weights.to(x.device))


def fit_linear_maps(
    x: Float[Tensor, "n d_in"], y: Float[Tensor, "n d_out"], ranks: tuple[int | None, ...] = (None,)
) -> list[LinearMap]:
    """Return the best linear maps of these ranks, with the penalty that is best on the last fifth of the samples.

    Args:
        x: what is read, shuffled, five samples or more.
        y: what is to be answered.
        ranks: of each map, 1 or more; None for full rank.

    Raises:
        ValueError: if there are fewer than five samples.
    """
    if len(x) < 5:
        raise ValueError(f"{len(x)} samples: expected five or more, some to fit and some to choose the penalty by")
    n_fitted = round(_SHARE_FITTED * len(x))
    normal = _Normal(x[:n_fitted], y[:n_fitted])
    held_out = [(normal.solve(strength), strength) for strength in STRENGTHS]
    errors = [float((y[n_fitted:] - fitted(x[n_fitted:])).square().sum(dtype=torch.float64)) for fitted, _ in held_out]
    strength = held_out[errors.index(min(errors))][1]
    normal = _Normal(x, y)
    return [normal.solve(strength, rank) for rank in ranks]


class _Normal:
    """Normal equations of centred samples in float64, in the eigenvectors of x^T x, where every penalty is solved."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x_mean, self.y_mean = x.mean(0, dtype=torch.float64), y.mean(0, dtype=torch.float64)
        x, y = x.double() - self.x_mean, y.double() - self.y_mean
        self.eigenvalues, self.axes = torch.linalg.eigh(x.T @ x)
        self.right = self.axes.T @ (x.T @ y)

    def solve(self, strength: float, rank: int | None = None) -> LinearMap:
        """Return the map for a penalty, of full rank or projected onto the principal directions of what it answers."""
        penalised = self.eigenvalues.clamp_min(0) + strength * self.eigenvalues.sum()
        tiny = torch.finfo(torch.float64).tiny  # samples that do not vary have the map 0
        weights = self.right / penalised.clamp_min(tiny)[:, None]
        if rank is not None and rank < weights.shape[1]:
            directions = torch.linalg.eigh((weights * penalised[:, None]).T @ weights).eigenvectors[:, -rank:]
            weights = weights @ directions @ directions.T
        weights = self.axes @ weights
        return LinearMap(weights.float(), (self.y_mean - self.x_mean @ weights).float())
