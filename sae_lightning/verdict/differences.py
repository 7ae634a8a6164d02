"""The difference between the trained SAE and one baseline: what is paired with what, and everything that varies."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_lightning.members import TRAINED, Member, Tag
from sae_lightning.runs.items import Fractions
from sae_lightning.runs.measurements import Measurements
from sae_lightning.verdict.grid import grid_step
from sae_lightning.verdict.statistics import (
    Difference,
    between_repeats,
    between_seeds,
    crossed,
    independent,
    linearised,
)

ROUNDING = 1e-6
"""Values that differ by less than this share of them are equal: they are logged as float32."""


class Entrant(NamedTuple):
    """A member of one of the runs that are compared.

    Args:
        run: its number among them.
        member: of that run.
    """

    run: int
    member: Member


class Pairing(NamedTuple):
    """What the difference of a metric between the trained SAE and a baseline is computed from.

    Args:
        trained: values of the trained SAEs.
        others: values of the baseline.
        pairs: those of one seed; none where no seed has both.
    """

    trained: Mapping[Entrant, float]
    others: Mapping[Entrant, float]
    pairs: Sequence[tuple[Entrant, Entrant]]

    @classmethod
    def of(cls, runs: Sequence[Measurements], tag: Tag, baseline: str) -> "Pairing | None":
        """Pair the SAEs of a metric; None where one side has no value."""
        trained, others = values_of(runs, tag, TRAINED), values_of(runs, tag, baseline)
        if not trained or not others:
            return None
        pairs = _pairs(list(trained), list(others))
        if pairs:
            trained = {one: trained[one] for one, _ in pairs}
        return cls(trained, others, pairs)

    @property
    def n_seeds(self) -> int:
        """Pairs of seeds, or the smaller number where there are none."""
        return len(self.pairs) or min(len(self.trained), len(self.others))


def values_of(runs: Sequence[Measurements], tag: Tag, policy: str) -> dict[Entrant, float]:
    """Return the values that a policy has of a metric in all runs."""
    return {
        Entrant(number, member): value
        for number, run in enumerate(runs)
        for member, value in run.values.get(tag, {}).items()
        if member.policy == policy and value is not None
    }


def difference_of(runs: Sequence[Measurements], tag: Tag, pairing: Pairing) -> tuple[Difference, int]:
    """Return trained minus baseline over seeds, items and evaluator seeds, and from how many items."""
    difference, n_items = _over_seeds_and_items(runs, tag, pairing)
    if (repeats := _over_repeats(runs, tag, pairing)) is not None:
        difference = difference.plus(*between_repeats(repeats))
    return difference, n_items


def between(runs: Sequence[Measurements], tag: Tag, trained: Sequence[float], others: Sequence[float]) -> Difference:
    """Return the difference over seeds of values in pairs.

    Where the metric counts, its variance is taken to be that of two seeds one step apart at least: with three or four
    seeds a smaller one is chance too often (`benchmarks.coverage`). Where nothing varies but rounding, it is 0.
    """
    differences = np.array(trained) - np.array(others)
    if np.ptp(differences) <= ROUNDING * max(map(abs, (*trained, *others))):
        return between_seeds(np.full(len(differences), differences.mean()))
    values = [value for run in runs for value in run.values.get(tag, {}).values()]
    step = grid_step([*values, *(run.floors.get(tag) for run in runs)])
    return between_seeds(differences, step**2 / 2)


def _pairs(trained: list[Entrant], others: list[Entrant]) -> list[tuple[Entrant, Entrant]]:
    """Pair each trained SAE with the baseline of its run and seed, the only one of its run, or the one of its seed."""
    pairs = []
    for one in trained:
        same_run = [other for other in others if other.run == one.run]
        same_seed = [other for other in same_run or others if other.member.seed == one.member.seed]
        match = same_seed if len(same_seed) == 1 else same_run if len(same_run) == 1 else []
        pairs += [(one, other) for other in match]
    return pairs


def _over_seeds_and_items(runs: Sequence[Measurements], tag: Tag, pairing: Pairing) -> tuple[Difference, int]:
    trained, others, pairs = pairing
    if not pairs:
        return independent(np.array(list(trained.values())), np.array(list(others.values()))), 0
    rows = [_item_differences(runs, tag, *pair) for pair in pairs]
    lengths = {len(row) for row in rows if row is not None}
    if len(lengths) == 1 and all(row is not None for row in rows) and (n_items := lengths.pop()) > 1:
        return crossed(np.stack([row for row in rows if row is not None])), n_items
    if len(pairs) > 1:
        return between(runs, tag, [trained[one] for one, _ in pairs], [others[other] for _, other in pairs]), 0
    both = [_items(runs, tag, entrant) for entrant in pairs[0]]
    if both[0] is not None and both[1] is not None:  # items of their own: as two samples
        one, other = (linearised(*fractions) for fractions in both if fractions is not None)
        return independent(one, other), min(len(one), len(other))
    return between_seeds(np.array([trained[pairs[0][0]] - others[pairs[0][1]]])), 0


def _over_repeats(runs: Sequence[Measurements], tag: Tag, pairing: Pairing) -> NDArray[np.float64] | None:
    """Return trained minus baseline [n_repeats] by evaluator seed, the mean over training seeds; None without any."""

    def repeats(entrants: Sequence[Entrant]) -> NDArray[np.float64] | None:
        rows = [runs[run].repeats.get(tag, {}).get(member, ()) for run, member in entrants]
        n = min(map(len, rows))
        return np.array([row[:n] for row in rows]).mean(0) if n > 1 else None

    sides = zip(*pairing.pairs, strict=True) if pairing.pairs else (pairing.trained, pairing.others)
    trained, others = (repeats(list(side)) for side in sides)
    if trained is None or others is None or len(trained) != len(others):
        return None
    return trained - others


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
