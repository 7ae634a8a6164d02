"""Differences between an SAE and a baseline, with confidence intervals.

Two things vary. Another seed gives another SAE, and other evaluation items (texts, pairs of prompts, examples) give
another score. `y[s, i]` is the difference at seed s and item i, both drawn at random and crossed. Seeds and items then
add

    V_seeds = MS_seeds / (n_seeds * n_items)              with n_seeds - 1 degrees of freedom
    V_items = (MS_items - MS_rest) / (n_seeds * n_items)  with n_items - 1, never below 0

to the variance of the mean (mean squares of the two-way layout), and half the interval is `sqrt(sum t_df^2 V)`, which
keeps its coverage with two or three seeds where one t after Satterthwaite does not (benchmarks/coverage.py). An
evaluator with seeds of its own adds what varies between these (`between_repeats`). The interval of one among n
differences that are compared at once has the level 1 - 0.05 / n (Bonferroni), so that all n cover at once as often as
one alone would. With seeds alone this is the paired t interval. With one seed it is the t interval over items, which is
the first-order limit of resampling them (the infinitesimal jackknife) without the noise of resampling. A ratio of sums
is linearised: `y_i = D + (difference of numerators - D * denominator_i) / mean(denominator)`.

A published SAE is one, and against it stand m draws of a control, a baseline for which nothing is trained. Where it is
no better than its control it is as good as another draw, so that `SAE - mean of the draws` varies by

    V_draws = s^2 (1 + 1 / m)    with m - 1 degrees of freedom

with s^2 the variance between draws: a prediction interval (`beyond_draws`), and not one of the mean. The items add
theirs, as of one SAE. A control of which there is one draw, as there is one set of principal components, is compared
over items alone.

The intervals cover the mean over all seeds and items of this kind. With one seed they describe these two SAEs and not
how they were trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
"""Confidence of every interval, or of all that are compared at once."""
_LEAST_P = 1e-100
"""Smaller p values are given as this one."""


@dataclass(frozen=True)
class Difference:
    """A mean difference and how much it varies.

    Args:
        mean: trained minus baseline.
        parts: the variances that add up to that of the mean, each with its degrees of freedom; none where nothing says
            how much the mean varies.
        n_compared: how many differences the interval holds for at once (Bonferroni); 1 for this one alone.
    """

    mean: float
    parts: tuple[tuple[float, int], ...]
    n_compared: int = 1

    def among(self, n_compared: int) -> "Difference":
        """Return the difference with the interval that holds for so many of them at once."""
        return replace(self, n_compared=n_compared)

    def plus(self, variance: float, df: int) -> "Difference":
        """Return the difference with another part of its variance, where it has an interval at all."""
        return replace(self, parts=(*self.parts, (variance, df))) if self.parts else self

    @property
    def half(self) -> float:
        """Half the width of the interval; nan without one."""
        return self._half(np.log((1 - LEVEL) / self.n_compared)) if self.parts else np.nan

    @property
    def low(self) -> float:
        """Lower end of the interval, or nan."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Upper end of the interval, or nan."""
        return self.mean + self.half

    @property
    def p(self) -> float:
        """Two-sided p value of no difference: below 5 % where the interval leaves out 0. Nan without an interval."""
        from scipy.optimize import brentq

        if not self.parts:
            return np.nan
        least = np.log(_LEAST_P)
        if self.mean == 0 or self._half(least) <= abs(self.mean):
            return 1.0 if self.mean == 0 else _LEAST_P
        log_p = brentq(lambda log_p: self._half(log_p) - abs(self.mean), least, 0.0)
        return float(min(1.0, self.n_compared * np.exp(log_p)))

    def _half(self, log_p: float) -> float:
        from scipy.special import stdtrit

        parts = [variance * stdtrit(df, np.exp(log_p) / 2) ** 2 for variance, df in self.parts if variance]
        return float(sum(parts) ** 0.5)


def between_seeds(differences: NDArray[np.float64], least_variance: float = 0.0) -> Difference:
    """Return the mean of the differences [n_seeds] with its paired t interval, or without one if there is one seed.

    Args:
        differences: one for each pair of seeds.
        least_variance: between seeds, in place of a smaller one that was seen; none at all says nothing and stays 0.
    """
    n, mean = len(differences), float(differences.mean())
    variance = float(differences.var(ddof=1)) if n > 1 else 0.0
    return Difference(mean, ((max(variance, least_variance) / n if variance else 0.0, n - 1),) if n > 1 else ())


def beyond_draws(differences: NDArray[np.float64], least_variance: float = 0.0) -> Difference:
    """Return the mean of the differences [n_draws] of one SAE to draws of a control, with its prediction interval.

    The interval leaves out 0 where the SAE is unlikely to be one more draw (Hahn and Meeker 1991, chapter 4).

    Args:
        differences: between the SAE and each draw.
        least_variance: between draws, in place of a smaller one that was seen; none at all says nothing and stays 0.
    """
    difference = between_seeds(differences, least_variance)
    n = len(differences)
    return replace(difference, parts=tuple((variance * (n + 1), df) for variance, df in difference.parts))


def over_items(y: NDArray[np.float64]) -> tuple[float, int]:
    """Return the variance of the mean of independent items [n_items], two or more, and its degrees of freedom."""
    return float(y.var(ddof=1)) / len(y), len(y) - 1


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
        return Difference(mean, ((float(ms_items) / y.size, n_items - 1),))
    rest = y - seed_means[:, None] - item_means + mean
    ms_rest = (rest**2).sum() / ((n_seeds - 1) * (n_items - 1))
    seeds = n_items * float(seed_means.var(ddof=1)) / y.size
    items = max(float(ms_items - ms_rest), 0.0) / y.size
    return Difference(mean, ((seeds, n_seeds - 1), (items, n_items - 1)))


def independent(first: NDArray[np.float64], second: NDArray[np.float64]) -> Difference:
    """Return the difference of the means of two independent samples [n], [m] with its interval."""
    samples = (first, second)
    parts = tuple((float(sample.var(ddof=1)) / len(sample), len(sample) - 1) for sample in samples if len(sample) > 1)
    return Difference(float(first.mean() - second.mean()), parts if len(parts) == 2 else ())


def between_repeats(differences: NDArray[np.float64]) -> tuple[float, int]:
    """Return the variance that evaluators add to a mean over their seeds, and its degrees of freedom.

    Args:
        differences: for each evaluator seed [n_repeats] the mean over training seeds of trained minus baseline.
    """
    n = len(differences)
    return float(differences.var(ddof=1)) / n, n - 1


def smallest_difference(repeats: Sequence[Sequence[float]]) -> float | None:
    """Return what two measurements of one SAE, with an evaluator seed each, may differ by in 95 of 100 cases.

    That is t sqrt(2) s, with the standard deviation s over evaluator seeds of one SAE, pooled over SAEs (after Chanin
    2026, arXiv 2605.18229). A smaller difference between single measurements may be the evaluator's own.

    Args:
        repeats: for each SAE its values by evaluator seed; None is returned where none has two.
    """
    from scipy.special import stdtrit

    several = [np.array(values) for values in repeats if len(values) > 1]
    df = sum(len(values) - 1 for values in several)
    if not df:
        return None
    variance = sum(float(values.var(ddof=1)) * (len(values) - 1) for values in several) / df
    return float(stdtrit(df, (1 + LEVEL) / 2) * (2 * variance) ** 0.5)


def linearised(numerators: NDArray[np.float64], denominators: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values [n_items] with the mean `sum(numerators) / sum(denominators)` and the spread of that ratio."""
    ratio = numerators.sum() / denominators.sum()
    return ratio + (numerators - ratio * denominators) / denominators.mean()
