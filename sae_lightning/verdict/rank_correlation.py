"""Rank correlation over latents, also with a third quantity held fixed, with an interval over latents and seeds.

    rho         Pearson correlation of ranks (Spearman)
    rho | w     (rho_xy - rho_xw rho_yw) / sqrt((1 - rho_xw^2) (1 - rho_yw^2))
    z           atanh(rho), of variance v = (1 + rho^2 / 2) / (n - 3 - n_held)

with v as of Bonett and Wright 2000 (Psychometrika 65). The mean of z over seeds has the variance `v + tau^2 / n_seeds`.
The v of one SAE is not divided by the number of seeds: what is stable is in all of them, so that another seed adds few
other latents. tau^2, by which seeds vary beyond v, is that of a random-effects meta-analysis, `max(0, var(z) - v)`,
with n_seeds - 1 degrees of freedom.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import atanh, tanh

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from sae_lightning.verdict.statistics import Difference

LEAST_LATENTS = 10
"""Fewer latents have no correlation worth an interval."""
_LARGEST = 0.9999999  # of a perfect correlation z is infinite


@dataclass(frozen=True)
class Correlation:
    """A rank correlation, the mean over seeds.

    Args:
        rho: in [-1, 1].
        low: lower end of the interval.
        high: upper end.
    """

    rho: float
    low: float
    high: float


@dataclass(frozen=True)
class Sample:
    """Quantities of the latents of one SAE, all finite.

    Args:
        x: [n_latents].
        y: [n_latents].
        held: [n_latents] what is held fixed; None for nothing.
    """

    x: Float[NDArray[np.float64], " n_latents"]
    y: Float[NDArray[np.float64], " n_latents"]
    held: Float[NDArray[np.float64], " n_latents"] | None = None

    @property
    def rho(self) -> float:
        """The correlation; nan where it is not defined: too few latents, or a quantity that is constant."""
        own = [self.x, self.y] if self.held is None else [self.x, self.y, self.held]
        if len(self.x) < LEAST_LATENTS or any(np.ptp(values) == 0 for values in own):
            return np.nan
        from scipy.stats import rankdata

        rho = np.corrcoef([rankdata(values) for values in own])
        if self.held is None:
            return float(rho[0, 1])
        left = (1 - rho[0, 2] ** 2) * (1 - rho[1, 2] ** 2)
        return float((rho[0, 1] - rho[0, 2] * rho[1, 2]) / np.sqrt(left)) if left > 1e-12 else np.nan

    @property
    def variance(self) -> float:
        """Variance of z."""
        return (1 + self.rho**2 / 2) / (len(self.x) - 3 - (self.held is not None))


def correlation(samples: Sequence[Sample]) -> Correlation | None:
    """Return the mean correlation over seeds with its interval; None where no seed has one.

    Args:
        samples: of one policy, one for each seed.
    """
    own = [sample for sample in samples if np.isfinite(sample.rho)]
    if not own:
        return None
    z = np.array([atanh(np.clip(sample.rho, -_LARGEST, _LARGEST)) for sample in own])
    within = float(np.mean([sample.variance for sample in own]))
    parts = [(within, min(len(sample.x) for sample in own) - 3)]
    if len(z) > 1:
        parts.append((max(0.0, float(z.var(ddof=1)) - within) / len(z), len(z) - 1))
    mean = Difference(float(z.mean()), tuple(parts))
    return Correlation(tanh(mean.mean), tanh(mean.low), tanh(mean.high))
