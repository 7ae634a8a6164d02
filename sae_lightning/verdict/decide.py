"""The verdict: for each metric and each baseline, does the SAE beat it?

A comparison is trained minus baseline, paired by seed within a run; see `statistics` for the intervals. It "beats" the
baseline, or "loses", where the p value, corrected for all comparisons of the experiment (Benjamini, Hochberg 1995), is
below 5 %; otherwise it "ties", which says that these data do not tell them apart and not that they are equal. Each
baseline is a question of its own: the best of several is never taken.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sae_lightning.verdict.items import MetricItems
from sae_lightning.verdict.statistics import (
    LEVEL,
    Difference,
    adjusted,
    between_seeds,
    crossed,
    independent,
    linearised,
)

TRAINED = "trained"

Member: TypeAlias = tuple[int, str, str]
"""Run, policy, seed."""


@dataclass(frozen=True)
class Measured:
    """What a run says for a verdict.

    Args:
        metrics: `{metric: {policy: {seed: value}}}`.
        floors: `{metric: value}`.
        better: `{metric: "higher" or "lower"}`.
        items: by metric.
    """

    metrics: Mapping[str, Mapping[str, Mapping[str, float | None]]]
    floors: Mapping[str, float | None]
    better: Mapping[str, str]
    items: Mapping[str, MetricItems]


@dataclass(frozen=True)
class Comparison:
    """One metric against one baseline.

    Args:
        metric: its name.
        baseline: name of the policy or reference.
        trained: mean over seeds.
        value: mean of the baseline.
        difference: trained minus baseline.
        p_adjusted: p value corrected for the number of comparisons; nan where there is none.
        verdict: beats, ties or loses; unknown where nothing says how much the difference varies.
        share: the baseline's value above the floor, as a share of the trained SAE's; None without a floor, or where the
            trained SAE is not above it.
        n_seeds: pairs of seeds.
        n_items: evaluation items that entered the interval, 0 for seeds alone.
    """

    metric: str
    baseline: str
    trained: float
    value: float
    difference: Difference
    p_adjusted: float
    verdict: str
    share: float | None
    n_seeds: int
    n_items: int


def decide(runs: Sequence[Measured]) -> list[Comparison]:
    """Every metric that has a better way against every baseline that has it; runs are of one experiment."""
    found = []
    for metric in dict.fromkeys(metric for run in runs for metric in run.better):
        policies = dict.fromkeys(policy for run in runs for policy in run.metrics.get(metric, ()))
        found += [_compare(runs, metric, policy) for policy in policies if policy != TRAINED]
    comparisons = [comparison for comparison in found if comparison is not None]
    p_values = adjusted(np.array([comparison.difference.p for comparison in comparisons]))
    return [
        _with_verdict(comparison, float(p), _better(runs, comparison.metric))
        for comparison, p in zip(comparisons, p_values, strict=True)
    ]


def verdict_as_json(comparisons: Sequence[Comparison], runs: Sequence[Measured]) -> dict[str, Any]:
    """The verdict for programs; numbers that do not exist are null."""
    metrics: dict[str, Any] = {}
    for of in comparisons:
        entry = metrics.setdefault(
            of.metric,
            {
                "better": _better(runs, of.metric),
                "floor": _floor(runs, of.metric),
                TRAINED: of.trained,
                "baselines": {},
            },
        )
        entry["baselines"][of.baseline] = {
            "value": of.value,
            "difference": of.difference.mean,
            "interval": [_finite(of.difference.low), _finite(of.difference.high)],
            "p": _finite(of.difference.p),
            "p_adjusted": _finite(of.p_adjusted),
            "verdict": of.verdict,
            "share_above_floor": of.share,
            "n_seeds": of.n_seeds,
            "n_items": of.n_items,
        }
    return {
        "level": LEVEL,
        "correction": f"Benjamini-Hochberg over {sum(not math.isnan(of.p_adjusted) for of in comparisons)} comparisons",
        "metrics": metrics,
    }


def _compare(runs: Sequence[Measured], metric: str, baseline: str) -> Comparison | None:
    trained, others = (_values(runs, metric, policy) for policy in (TRAINED, baseline))
    if not trained or not others:
        return None
    pairs = _pairs(list(trained), list(others))
    if pairs:
        trained = {one: trained[one] for one, _ in pairs}
    means = statistics.fmean(trained.values()), statistics.fmean(others.values())
    difference, n_items = _difference(runs, metric, trained, others, pairs)
    return Comparison(
        metric,
        baseline,
        *means,
        difference,
        math.nan,
        "unknown",
        _share(*means, _floor(runs, metric), _better(runs, metric)),
        len(pairs) or min(len(trained), len(others)),
        n_items,
    )


def _pairs(trained: list[Member], others: list[Member]) -> list[tuple[Member, Member]]:
    """Each trained SAE beside the baseline of its run and seed, or the only one of its run, or the one of its seed."""
    pairs = []
    for one in trained:
        run, _, seed = one
        of_run = [other for other in others if other[0] == run]
        of_seed = [other for other in of_run or others if other[2] == seed]
        match = of_seed if len(of_seed) == 1 else of_run if len(of_run) == 1 else []
        pairs += [(one, other) for other in match]
    return pairs


def _difference(
    runs: Sequence[Measured],
    metric: str,
    trained: Mapping[Member, float],
    others: Mapping[Member, float],
    pairs: Sequence[tuple[Member, Member]],
) -> tuple[Difference, int]:
    """The difference, and from how many items."""
    if not pairs:
        return independent(np.array(list(trained.values())), np.array(list(others.values()))), 0
    rows = [_item_differences(runs, metric, *pair) for pair in pairs]
    lengths = {len(row) for row in rows if row is not None}
    if len(lengths) == 1 and all(row is not None for row in rows) and (n_items := lengths.pop()) > 1:
        return crossed(np.stack([row for row in rows if row is not None])), n_items
    if len(pairs) > 1:
        return between_seeds(np.array([trained[one] - others[other] for one, other in pairs])), 0
    both = [_items(runs, metric, member) for member in pairs[0]]
    if both[0] is not None and both[1] is not None:  # items of their own: as two samples
        one, other = (linearised(*items) for items in both if items is not None)
        return independent(one, other), min(len(one), len(other))
    return between_seeds(np.array([trained[pairs[0][0]] - others[pairs[0][1]]])), 0


def _item_differences(
    runs: Sequence[Measured], metric: str, trained: Member, other: Member
) -> NDArray[np.float64] | None:
    """Differences [n_items] of a pair that answered the same items, whose mean is that of the pair."""
    one, another = _items(runs, metric, trained), _items(runs, metric, other)
    paired = all(metric in runs[run].items and runs[run].items[metric].paired for run in (trained[0], other[0]))
    if one is None or another is None or not paired or not _same(one[1], another[1]):
        return None
    return linearised(one[0] - another[0], one[1])


def _items(
    runs: Sequence[Measured], metric: str, member: Member
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    run, policy, seed = member
    items = runs[run].items.get(metric)
    found = items.of.get((policy, seed)) if items else None
    if found is None or len(found[0]) < 2 or not np.isfinite(found[0]).all() or not found[1].sum():
        return None
    return found


def _same(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return one.shape == other.shape and np.allclose(one, other, rtol=1e-4)


def _with_verdict(comparison: Comparison, p_adjusted: float, better: str) -> Comparison:
    verdict = "unknown"
    if not math.isnan(p_adjusted):
        is_more = comparison.difference.mean > 0
        verdict = "ties" if p_adjusted >= 1 - LEVEL else "beats" if is_more == (better == "higher") else "loses"
    return Comparison(**{**vars(comparison), "p_adjusted": p_adjusted, "verdict": verdict})


def _values(runs: Sequence[Measured], metric: str, policy: str) -> dict[Member, float]:
    return {
        (number, policy, seed): value
        for number, run in enumerate(runs)
        for seed, value in run.metrics.get(metric, {}).get(policy, {}).items()
        if value is not None
    }


def _better(runs: Sequence[Measured], metric: str) -> str:
    return next(run.better[metric] for run in runs if metric in run.better)


def _floor(runs: Sequence[Measured], metric: str) -> float | None:
    floors = [floor for run in runs if (floor := run.floors.get(metric)) is not None]
    return statistics.fmean(floors) if floors else None


def _share(trained: float, value: float, floor: float | None, better: str) -> float | None:
    if floor is None or not (trained > floor if better == "higher" else trained < floor):
        return None
    return (value - floor) / (trained - floor)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
