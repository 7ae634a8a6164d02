"""The verdict: for each metric and each baseline, does the SAE beat it?

A comparison is trained minus baseline, paired by seed within a run; see `statistics` for the intervals. It "beats" the
baseline, or "loses", where the p value, corrected for all comparisons of the experiment (Benjamini, Hochberg 1995), is
below 5 %; otherwise it "ties": these data show no clear difference, which does not say that the two are equal. Each
baseline is a question of its own: the best of several is never taken.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_lightning.members import TRAINED, Member, Tag, in_order
from sae_lightning.runs.items import Fractions
from sae_lightning.runs.measurements import Measurements
from sae_lightning.verdict.statistics import (
    LEVEL,
    Difference,
    adjusted,
    between_seeds,
    crossed,
    independent,
    linearised,
)


class Entrant(NamedTuple):
    """A member of one of the runs that are compared.

    Args:
        run: its number among them.
        member: of that run.
    """

    run: int
    member: Member


@dataclass(frozen=True)
class Comparison:
    """One metric against one baseline.

    Args:
        tag: the metric.
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

    tag: Tag
    baseline: str
    trained: float
    value: float
    difference: Difference
    p_adjusted: float
    verdict: str
    share: float | None
    n_seeds: int
    n_items: int


def decide(runs: Sequence[Measurements]) -> list[Comparison]:
    """Compare every metric that has a better way with every baseline that has it, in the order of tables.

    Args:
        runs: of one experiment; a family by its sizes (`Measurements.by_size`).
    """
    tags = list(dict.fromkeys(tag for run in runs for tag in run.values if run.better(tag)))
    compared = []
    for tag in runs[0].in_order(tags) if runs else []:
        policies = in_order(member.policy for run in runs for member in run.values.get(tag, ()))
        compared += [_compare(runs, tag, policy) for policy in policies if policy != TRAINED]
    comparisons = [comparison for comparison in compared if comparison is not None]
    p_values = adjusted(np.array([comparison.difference.p for comparison in comparisons]))
    return [
        _with_verdict(comparison, float(p), better_way(runs, comparison.tag))
        for comparison, p in zip(comparisons, p_values, strict=True)
    ]


def verdict_as_json(comparisons: Sequence[Comparison], runs: Sequence[Measurements]) -> dict[str, Any]:
    """Return the verdict for programs; numbers that do not exist are null."""
    metrics: dict[str, Any] = {}
    for comparison in comparisons:
        tag = comparison.tag
        describing = next(run for run in runs if run.better(tag))
        entry = metrics.setdefault(
            str(tag),
            {
                "label": describing.label(tag),
                "question": describing.metric(tag).question.text,
                "better": describing.better(tag),
                "floor": _floor(runs, tag),
                TRAINED: comparison.trained,
                "baselines": {},
            },
        )
        entry["baselines"][comparison.baseline] = {
            "value": comparison.value,
            "difference": comparison.difference.mean,
            "interval": [_finite(comparison.difference.low), _finite(comparison.difference.high)],
            "p": _finite(comparison.difference.p),
            "p_adjusted": _finite(comparison.p_adjusted),
            "verdict": comparison.verdict,
            "share_above_floor": comparison.share,
            "n_seeds": comparison.n_seeds,
            "n_items": comparison.n_items,
        }
    n_compared = sum(not math.isnan(comparison.p_adjusted) for comparison in comparisons)
    return {
        "level": LEVEL,
        "correction": f"Benjamini-Hochberg over {n_compared} comparisons",
        "metrics": metrics,
    }


def better_way(runs: Sequence[Measurements], tag: Tag) -> str:
    """Return which way a metric with a verdict is better."""
    return next(better for run in runs if (better := run.better(tag)))


def _compare(runs: Sequence[Measurements], tag: Tag, baseline: str) -> Comparison | None:
    trained, others = (_values(runs, tag, policy) for policy in (TRAINED, baseline))
    if not trained or not others:
        return None
    pairs = _pairs(list(trained), list(others))
    if pairs:
        trained = {one: trained[one] for one, _ in pairs}
    means = statistics.fmean(trained.values()), statistics.fmean(others.values())
    difference, n_items = _difference(runs, tag, trained, others, pairs)
    return Comparison(
        tag,
        baseline,
        *means,
        difference,
        math.nan,
        "unknown",
        _share(*means, _floor(runs, tag), better_way(runs, tag)),
        len(pairs) or min(len(trained), len(others)),
        n_items,
    )


def _pairs(trained: list[Entrant], others: list[Entrant]) -> list[tuple[Entrant, Entrant]]:
    """Pair each trained SAE with the baseline of its run and seed, the only one of its run, or the one of its seed."""
    pairs = []
    for one in trained:
        same_run = [other for other in others if other.run == one.run]
        same_seed = [other for other in same_run or others if other.member.seed == one.member.seed]
        match = same_seed if len(same_seed) == 1 else same_run if len(same_run) == 1 else []
        pairs += [(one, other) for other in match]
    return pairs


def _difference(
    runs: Sequence[Measurements],
    tag: Tag,
    trained: Mapping[Entrant, float],
    others: Mapping[Entrant, float],
    pairs: Sequence[tuple[Entrant, Entrant]],
) -> tuple[Difference, int]:
    """Return the difference, and from how many items."""
    if not pairs:
        return independent(np.array(list(trained.values())), np.array(list(others.values()))), 0
    rows = [_item_differences(runs, tag, *pair) for pair in pairs]
    lengths = {len(row) for row in rows if row is not None}
    if len(lengths) == 1 and all(row is not None for row in rows) and (n_items := lengths.pop()) > 1:
        return crossed(np.stack([row for row in rows if row is not None])), n_items
    if len(pairs) > 1:
        return between_seeds(np.array([trained[one] - others[other] for one, other in pairs])), 0
    both = [_items(runs, tag, entrant) for entrant in pairs[0]]
    if both[0] is not None and both[1] is not None:  # items of their own: as two samples
        one, other = (linearised(*fractions) for fractions in both if fractions is not None)
        return independent(one, other), min(len(one), len(other))
    return between_seeds(np.array([trained[pairs[0][0]] - others[pairs[0][1]]])), 0


def _item_differences(
    runs: Sequence[Measurements], tag: Tag, trained: Entrant, other: Entrant
) -> NDArray[np.float64] | None:
    """Return differences [n_items] of a pair that answered the same items, whose mean is that of the pair."""
    one, another = _items(runs, tag, trained), _items(runs, tag, other)
    paired = all(tag in runs[run].items and runs[run].items[tag].paired for run in (trained.run, other.run))
    if one is None or another is None or not paired or not _same(one[1], another[1]):
        return None
    return linearised(one[0] - another[0], one[1])


def _items(runs: Sequence[Measurements], tag: Tag, entrant: Entrant) -> Fractions | None:
    items = runs[entrant.run].items.get(tag)
    fractions = items.members.get(entrant.member) if items else None
    if fractions is None or len(fractions[0]) < 2 or not np.isfinite(fractions[0]).all() or not fractions[1].sum():
        return None
    return fractions


def _same(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return one.shape == other.shape and np.allclose(one, other, rtol=1e-4)


def _with_verdict(comparison: Comparison, p_adjusted: float, better: str) -> Comparison:
    verdict = "unknown"
    if not math.isnan(p_adjusted):
        is_more = comparison.difference.mean > 0
        verdict = "ties" if p_adjusted >= 1 - LEVEL else "beats" if is_more == (better == "higher") else "loses"
    return replace(comparison, p_adjusted=p_adjusted, verdict=verdict)


def _values(runs: Sequence[Measurements], tag: Tag, policy: str) -> dict[Entrant, float]:
    return {
        Entrant(number, member): value
        for number, run in enumerate(runs)
        for member, value in run.values.get(tag, {}).items()
        if member.policy == policy and value is not None
    }


def _floor(runs: Sequence[Measurements], tag: Tag) -> float | None:
    floors = [floor for run in runs if (floor := run.floors.get(tag)) is not None]
    return statistics.fmean(floors) if floors else None


def _share(trained: float, value: float, floor: float | None, better: str) -> float | None:
    if floor is None or not (trained > floor if better == "higher" else trained < floor):
        return None
    return (value - floor) / (trained - floor)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
