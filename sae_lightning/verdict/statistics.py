"""Differences between an SAE and a baseline, with confidence intervals.

Two things vary. Another seed gives another SAE, and other evaluation items (texts, pairs of prompts, examples) give
another score. `y[s, i]` is the difference at seed s and item i, both drawn at random and crossed. Seeds and items then
add

    V_seeds = MS_seeds / (n_seeds * n_items)              with n_seeds - 1 degrees of freedom
    V_items = (MS_items - MS_rest) / (n_seeds * n_items)  with n_items - 1, never below 0

to the variance of the mean (mean squares of the two-way layout), and half the interval is
`sqrt(sum t_df^2 V)`, which keeps its coverage with two or three seeds where one t after Satterthwaite does not
(benchmarks/coverage.py). With seeds alone this is the paired t interval. With one seed it is the t interval over items,
which is the first-order limit of resampling them (the infinitesimal jackknife) without the noise of resampling. A ratio
of sums is linearised: `y_i = D + (difference of numerators - D * denominator_i) / mean(denominator)`.

The intervals cover the mean over all seeds and items of this kind. With one seed they describe these two SAEs and not
how they were trained.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
"""Confidence of every interval."""
_LEAST_P = 1e-100
"""Smaller p values are given as this one."""


@dataclass(frozen=True)
class Difference:
    """A mean difference, its interval and its p value.

    Args:
        mean: trained minus baseline.
        low: lower end of the interval; nan if the data do not show how much the mean varies.
        high: upper end of the interval, or nan.
        p: two-sided p value of no difference; nan without an interval.
    """

    mean: float
    low: float
    high: float
    p: float


def between_seeds(differences: NDArray[np.float64]) -> Difference:
    """Return the mean of the differences [n_seeds] with its paired t interval, or without one if there is one seed."""
    n = len(differences)
    return _difference(float(differences.mean()), [(float(differences.var(ddof=1)) / n, n - 1)] if n > 1 else [])


def crossed(y: NDArray[np.float64]) -> Difference:
    """Return the mean of the differences [n_seeds, n_items] with its interval; all seeds share the items.

    Raises:
        ValueError: if there are fewer than two items.
    """
    n_seeds, n_items = y.shape
    if n_items < 2:
        raise ValueError(f"expected two items or more, got {n_items}")
    mean, seed_means, item_means = float(y.mean()), y.mean(1), y.mean(0)
    ms_items = n_seeds * item_means.var(ddof=1)
    if n_seeds == 1:
        return _difference(mean, [(float(ms_items) / y.size, n_items - 1)])
    rest = y - seed_means[:, None] - item_means + mean
    ms_rest = (rest**2).sum() / ((n_seeds - 1) * (n_items - 1))
    seeds = n_items * float(seed_means.var(ddof=1)) / y.size
    return _difference(mean, [(seeds, n_seeds - 1), (max(float(ms_items - ms_rest), 0.0) / y.size, n_items - 1)])


def independent(first: NDArray[np.float64], second: NDArray[np.float64]) -> Difference:
    """Return the difference of the means of two independent samples [n], [m] with its interval."""
    samples = (first, second)
    parts = [(float(sample.var(ddof=1)) / len(sample), len(sample) - 1) for sample in samples if len(sample) > 1]
    return _difference(float(first.mean() - second.mean()), parts if len(parts) == 2 else [])


def linearised(numerators: NDArray[np.float64], denominators: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values [n_items] with the mean `sum(numerators) / sum(denominators)` and the spread of that ratio."""
    ratio = numerators.sum() / denominators.sum()
    return ratio + (numerators - ratio * denominators) / denominators.mean()


def adjusted(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p values [n], adjusted for multiple comparisons (Benjamini and Hochberg 1995); nan stays nan.

    If everything below 0.05 is called a difference, at most 5 % of these are expected to be none.
    """
    from scipy.stats import false_discovery_control

    result = p_values.copy()
    is_known = ~np.isnan(p_values)
    if is_known.any():
        result[is_known] = false_discovery_control(p_values[is_known])
    return result


def _difference(mean: float, parts: list[tuple[float, int]]) -> Difference:
    """Return the difference with the interval from (variance of the mean, degrees of freedom) of each part, if any."""
    from scipy.optimize import brentq
    from scipy.special import stdtrit

    if not parts:
        return Difference(mean, np.nan, np.nan, np.nan)

    def half_width(log_p: float) -> float:
        return sum(variance * stdtrit(df, np.exp(log_p) / 2) ** 2 for variance, df in parts if variance) ** 0.5

    half = half_width(np.log(1 - LEVEL))
    if half == 0 or mean == 0:
        return Difference(mean, mean - half, mean + half, float(mean == 0))
    # The p value is 1 minus the level at which the interval ends at 0.
    least = np.log(_LEAST_P)
    p = _LEAST_P if half_width(least) <= abs(mean) else np.exp(brentq(lambda x: half_width(x) - abs(mean), least, 0.0))
    return Difference(mean, mean - half, mean + half, float(p))
