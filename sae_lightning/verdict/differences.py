"""The difference between the trained SAE and one baseline: what is paired with what, and everything that varies.

A published SAE is compared with draws of a control: there is no seed that both have, and nothing is paired but items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
    beyond_draws,
    crossed,
    independent,
    linearised,
    over_items,
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
        is_control: whether the one trained SAE is a published one, and the others are draws of its control.
    """

    trained: Mapping[Entrant, float]
    others: Mapping[Entrant, float]
    pairs: Sequence[tuple[Entrant, Entrant]]
    is_control: bool = False

    @classmethod
    def of(cls, runs: Sequence[Measurements], tag: Tag, baseline: str, is_control: bool = False) -> "Pairing | None":
        """Pair the SAEs of a metric; None where one side has no value.

        Args:
            runs: of one experiment.
            tag: the metric.
            baseline: name of the policy or reference.
            is_control: whether it is a control of a published SAE: then nothing is paired.
        """
        trained, others = values_of(runs, tag, TRAINED), values_of(runs, tag, baseline)
        if not trained or not others:
            return None
        if is_control:  # measured by several runs the published SAE is still one
            return cls(dict(list(trained.items())[:1]), others, [], is_control=True)
        pairs = _pairs(list(trained), list(others))
        if pairs:
            trained = {one: trained[one] for one, _ in pairs}
        return cls(trained, others, pairs)

    @property
    def n_seeds(self) -> int:
        """Pairs of seeds, or the smaller number where there are none; 1 against a control."""
        return len(self.pairs) or min(len(self.trained), len(self.others))


def values_of(runs: Sequence[Measurements], tag: Tag, policy: str) -> dict[Entrant, float]:
    """Return the values that a policy has of a metric in all runs."""
    return {
        Entrant(number, member): value
        for number, run in enumerate(runs)
        for member, value in run.values.get(tag, {}).items()
        if member.policy == policy and value is not None
    }


def mean_of(runs: Sequence[Measurements], tag: Tag, policy: str) -> Difference | None:
    """Return the mean of a policy over its seeds or draws, as its difference to 0; None where it has no value."""
    values = list(values_of(runs, tag, policy).values())
    return between(runs, tag, values, [0.0] * len(values)) if values else None


def difference_of(runs: Sequence[Measurements], tag: Tag, pairing: Pairing) -> tuple[Difference, int]:
    """Return trained minus baseline over seeds or draws, items and evaluator seeds, and from how many items."""
    compare = _over_draws_and_items if pairing.is_control else _over_seeds_and_items
    difference, n_items = compare(runs, tag, pairing)
    if (repeats := _over_repeats(runs, tag, pairing)) is not None:
        part = between_repeats(repeats)
        # Of one seed, evaluator seeds do not say how another would vary. Of a control with one draw, nothing else does.
        difference = (
            replace(difference, parts=(*difference.parts, part)) if pairing.is_control else difference.plus(*part)
        )
    return difference, n_items


def between(runs: Sequence[Measurements], tag: Tag, trained: Sequence[float], others: Sequence[float]) -> Difference:
    """Return the difference over seeds of values in pairs.

    Where the metric counts, its variance is taken to be that of two seeds one step apart at least: with three or four
    seeds a smaller one is chance too often (`benchmarks.coverage`). Where nothing varies but rounding, it is 0.
    """
    differences = _without_rounding(trained, others)
    return between_seeds(differences, _least_variance(runs, tag))


def _without_rounding(trained: Sequence[float], others: Sequence[float]) -> NDArray[np.float64]:
    """Return the differences, all equal where they differ by rounding alone."""
    differences = np.array(trained) - np.array(others)
    if np.ptp(differences) <= ROUNDING * max(map(abs, (*trained, *others))):
        return np.full(len(differences), differences.mean())
    return differences


def _least_variance(runs: Sequence[Measurements], tag: Tag) -> float:
    """Return the variance of two values that are one step of a metric that counts apart; 0 of others."""
    values = [value for run in runs for value in run.values.get(tag, {}).values()]
    return grid_step([*values, *(run.floors.get(tag) for run in runs)]) ** 2 / 2


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
    trained, others, pairs = pairing.trained, pairing.others, pairing.pairs
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


def _over_draws_and_items(runs: Sequence[Measurements], tag: Tag, pairing: Pairing) -> tuple[Difference, int]:
    """Return published minus control: what varies between draws, and between items of the mean over draws."""
    ((reference, value),) = pairing.trained.items()
    differences = _without_rounding([value] * len(pairing.others), list(pairing.others.values()))
    difference = beyond_draws(differences, _least_variance(runs, tag))
    samples = _item_samples(runs, tag, reference, list(pairing.others))
    parts = (*difference.parts, *map(over_items, samples))
    return replace(difference, parts=parts), min(map(len, samples), default=0)


def _item_samples(
    runs: Sequence[Measurements], tag: Tag, reference: Entrant, draws: Sequence[Entrant]
) -> list[NDArray[np.float64]]:
    """Return what varies between items [n_items]: differences of the mean over draws, or both sides' own items."""
    rows = [row for draw in draws if (row := _item_differences(runs, tag, reference, draw)) is not None]
    if len(rows) == len(draws) and len({len(row) for row in rows}) == 1:
        return [np.mean(rows, axis=0)]
    # Between several draws vary their own items as well.
    own = [_items(runs, tag, entrant) for entrant in (reference, *(draws if len(draws) == 1 else ()))]
    return [linearised(*fractions) for fractions in own if fractions is not None] if all(own) else []


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
