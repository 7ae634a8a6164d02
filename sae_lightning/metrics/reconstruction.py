"""Metrics of reconstruction: explained variance, cosine similarity, relative norm, and floors.

    explained_variance = 1 - fvu = 1 - sum ||x - x_hat||^2 / sum ||x - mean(x)||^2

over the whole set, with the mean of each dimension (Korznikov et al. 2026, arXiv 2602.14111, eq 5). Averages of
per-batch or per-sample values, other centrings and clamping are other quantities under the same name.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from sae_lightning.distributed import group_of
from sae_lightning.metrics import functional


class ExplainedVariance(Metric):
    """Share of the variance of x that x_hat explains: 1 - sum ||x - x_hat||^2 / sum ||x - mean(x)||^2.

    `update` takes x and x_hat, both [batch, d_in]; `compute` returns a float64 scalar in (-inf, 1], higher is better.
    Predicting the mean of the data scores 0. The value does not depend on how the data are split into batches or ranks.
    Data that do not vary (one sample, or none) give nan. fvu is 1 minus this.

    Args:
        d_in: width of an activation.

    >>> metric = ExplainedVariance(d_in=2)
    >>> x = torch.tensor([[1.0, 0.0], [3.0, 0.0]])
    >>> metric.update(x, x.mean(0).expand_as(x))
    >>> metric.compute()
    tensor(0., dtype=torch.float64)
    """

    full_state_update = False
    higher_is_better = True
    moments: Tensor
    squared_error: Tensor

    def __init__(self, d_in: int) -> None:
        super().__init__(process_group=group_of())
        self.add_state("moments", torch.zeros(d_in + 2, dtype=torch.float64), dist_reduce_fx=functional.moments_merge)
        self.add_state("squared_error", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, x: Float[Tensor, "batch d_in"], x_hat: Float[Tensor, "batch d_in"]) -> None:
        """Add samples and their reconstructions."""
        self.moments = functional.moments_merge(torch.stack([self.moments, functional.moments_update(x)]))
        self.squared_error = self.squared_error + functional.squared_error_update(x, x_hat)

    def compute(self) -> Float[Tensor, ""]:
        """Return the explained variance of all samples so far."""
        return functional.explained_variance_compute(self.squared_error, self.moments)


class _SampleMean(Metric):
    """Mean of a value per sample."""

    full_state_update = False
    total: Tensor
    n_samples: Tensor

    def __init__(self) -> None:
        super().__init__(process_group=group_of())
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("n_samples", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def _add(self, total: Tensor, n_samples: Tensor) -> None:
        self.total = self.total + total
        self.n_samples = self.n_samples + n_samples

    def compute(self) -> Float[Tensor, ""]:
        """Return the mean over all samples so far, nan over none."""
        return self.total / self.n_samples


class CosineSimilarity(_SampleMean):
    """Mean over samples of cos(x, x_hat).

    `update` takes x and x_hat, both [batch, d_in]; `compute` returns a float64 scalar in [-1, 1], higher is better. For
    the score of predicting the mean, which is far from 0 where data have a large mean, see `MeanPrediction`. Samples
    x = 0 are left out, x_hat = 0 scores 0; nan without samples.

    >>> metric = CosineSimilarity()
    >>> metric.update(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0], [1.0, 0.0]]))
    >>> metric.compute()
    tensor(0.5000, dtype=torch.float64)
    """

    higher_is_better = True

    def update(self, x: Float[Tensor, "batch d_in"], x_hat: Float[Tensor, "batch d_in"]) -> None:
        """Add samples and their reconstructions."""
        self._add(*functional.cosine_similarity_update(x, x_hat))


class RelativeNorm(_SampleMean):
    """Mean over samples of ||x_hat|| / ||x||: below 1 where reconstructions shrink.

    `update` takes x and x_hat, both [batch, d_in]; `compute` returns a float64 scalar in [0, inf), best at 1. It is the
    mean of ratios, not the ratio of means, so samples with a large norm do not dominate. For the score of predicting
    the mean see `MeanPrediction`. Samples x = 0 are left out; nan without samples.

    >>> metric = RelativeNorm()
    >>> metric.update(torch.tensor([[4.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
    >>> metric.compute()
    tensor(0.7500, dtype=torch.float64)
    """

    higher_is_better = None

    def update(self, x: Float[Tensor, "batch d_in"], x_hat: Float[Tensor, "batch d_in"]) -> None:
        """Add samples and their reconstructions."""
        self._add(*functional.relative_norm_update(x, x_hat))


class MeanPrediction(Metric):
    """Scores of predicting the mean of the data in `CosineSimilarity` and `RelativeNorm`: their floors, in one pass.

    `update` takes x [batch, d_in]; `compute` returns `{"cosine": ..., "relative_norm": ...}`, float64 scalars. A mean
    of exactly 0 has cosine 0. Nan without samples x != 0.

    Args:
        d_in: width of an activation.

    >>> metric = MeanPrediction(d_in=2)
    >>> metric.update(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
    >>> {name: round(value.item(), 4) for name, value in metric.compute().items()}
    {'cosine': 0.7071, 'relative_norm': 0.7071}
    """

    full_state_update = False
    total: Tensor
    unit_total: Tensor
    inverse_norm_total: Tensor
    n_nonzero: Tensor
    n_samples: Tensor

    def __init__(self, d_in: int) -> None:
        super().__init__(process_group=group_of())
        for name, shape in [("total", (d_in,)), ("unit_total", (d_in,)), ("inverse_norm_total", ())]:
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("n_nonzero", "n_samples"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, x: Float[Tensor, "batch d_in"]) -> None:
        """Add samples."""
        total, unit_total, inverse_norm_total, n_nonzero, n_samples = functional.mean_prediction_update(x)
        self.total = self.total + total
        self.unit_total = self.unit_total + unit_total
        self.inverse_norm_total = self.inverse_norm_total + inverse_norm_total
        self.n_nonzero = self.n_nonzero + n_nonzero
        self.n_samples = self.n_samples + n_samples

    def compute(self) -> dict[str, Float[Tensor, ""]]:
        """Return the scores of the mean of all samples so far."""
        return functional.mean_prediction_compute(
            self.total, self.unit_total, self.inverse_norm_total, self.n_nonzero, self.n_samples
        )
