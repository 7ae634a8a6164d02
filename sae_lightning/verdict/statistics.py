"""Differences between an SAE and a baseline, with intervals.

Two things vary. Another seed gives another SAE, and other evaluation items (texts, pairs of prompts, examples) another
score. `y[s, i]` is the difference at seed s and item i, both drawn at random and crossed. Seeds and items then add

    V_seeds = MS_seeds / (n_seeds * n_items)              with n_seeds - 1 degrees of freedom
    V_items = (MS_items - MS_rest) / (n_seeds * n_items)  with n_items - 1, never below 0

to the variance of the mean (mean squares of the two-way layout), and half the interval is
`sqrt(sum t_df^2 V)`, which keeps its coverage with two or three seeds where one t after Satterthwaite does not
(benchmarks/coverage.py). With seeds alone this is the paired t interval; with one seed it is the t interval over items,
the first-order limit of resampling them (the infinitesimal jackknife) without the noise of resampling. A ratio of sums
is linearised: `y_i = D + (difference of numerators - D * denominator_i) / mean(denominator)`.

The intervals are about the mean over all seeds and items of the kind. With one seed they are about these two SAEs, not
about how they were trained.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
"""Confidence of every interval."""
_LEAST_P = 1e-100


@dataclass(frozen=True)
class Difference:
    """A mean difference and what is known of it.

    Args:
        mean: trained minus baseline.
        low: lower end of the interval; nan where nothing says how much the mean varies.
        high: upper end.
        p: two-sided p value of no difference; nan where there is no interval.
    """

    mean: float
    low: float
    high: float
    p: float


def between_seeds(differences: NDArray[np.float64]) -> Difference:
    """Mean of the differences [n_seeds] and its paired t interval; without an interval where there is one seed."""
    n = len(differences)
    return _difference(float(differences.mean()), [(float(differences.var(ddof=1)) / n, n - 1)] if n > 1 else [])


def crossed(y: NDArray[np.float64]) -> Difference:
    """Mean of the differences [n_seeds, n_items], every seed having answered the same two items or more."""
    n_seeds, n_items = y.shape
    if n_items < 2:
        raise ValueError(f"expected two items or more, got {n_items}")
    mean, of_seeds, of_items = float(y.mean()), y.mean(1), y.mean(0)
    ms_items = n_seeds * of_items.var(ddof=1)
    if n_seeds == 1:
        return _difference(mean, [(float(ms_items) / y.size, n_items - 1)])
    rest = y - of_seeds[:, None] - of_items + mean
    ms_rest = (rest**2).sum() / ((n_seeds - 1) * (n_items - 1))
    seeds = n_items * float(of_seeds.var(ddof=1)) / y.size
    return _difference(mean, [(seeds, n_seeds - 1), (max(float(ms_items - ms_rest), 0.0) / y.size, n_items - 1)])


def independent(first: NDArray[np.float64], second: NDArray[np.float64]) -> Difference:
    """Difference of the means of two samples [n], [m] that have nothing to do with each other."""
    samples = (first, second)
    parts = [(float(sample.var(ddof=1)) / len(sample), len(sample) - 1) for sample in samples if len(sample) > 1]
    return _difference(float(first.mean() - second.mean()), parts if len(parts) == 2 else [])


def linearised(numerators: NDArray[np.float64], denominators: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values [n_items] whose mean is `sum(numerators) / sum(denominators)` and whose spread is that of the ratio."""
    ratio = numerators.sum() / denominators.sum()
    return ratio + (numerators - ratio * denominators) / denominators.mean()


def adjusted(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """P values [n] for n questions asked at once (Benjamini, Hochberg 1995); a nan is no question and stays.

    Calling everything below 0.05 a difference, at most 5 % of what is called one is expected to be none.
    """
    from scipy.stats import false_discovery_control

    result = p_values.copy()
    asked = ~np.isnan(p_values)
    if asked.any():
        result[asked] = false_discovery_control(p_values[asked])
    return result


def _difference(mean: float, parts: list[tuple[float, int]]) -> Difference:
    """From variances of the mean and their degrees of freedom, one or more, which add up; none: no interval."""
    from scipy.optimize import brentq
    from scipy.special import stdtrit

    if not parts:
        return Difference(mean, np.nan, np.nan, np.nan)

    def half(log_p: float) -> float:
        return sum(variance * stdtrit(df, np.exp(log_p) / 2) ** 2 for variance, df in parts if variance) ** 0.5

    width = half(np.log(1 - LEVEL))
    if width == 0 or mean == 0:
        return Difference(mean, mean - width, mean + width, float(mean == 0))
    least = np.log(_LEAST_P)
    p = _LEAST_P if half(least) <= abs(mean) else np.exp(brentq(lambda at: half(at) - abs(mean), least, 0.0))
    return Difference(mean, mean - width, mean + width, float(p))
