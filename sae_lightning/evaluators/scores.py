"""`Scores`: what an evaluator measured of one metric, and `Items`: what its values are made of."""

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from sae_lightning.distributed import Ranks, all_gather_object, world_size
from sae_lightning.members import Member, by_part
from sae_lightning.metric import Metric


@dataclass(frozen=True)
class Items:
    """What a metric is made of: for each member `sum(numerators) / sum(denominators)` over evaluation items.

    In a mean over items all denominators are 1; a ratio of sums (explained variance, loss recovered) has its own.
    Items are what intervals are computed from where there are few seeds, so they should be independent: documents or
    batches of text and not tokens.

    Args:
        numerators: [n_items] for each member.
        denominators: [n_items] for each member.
        paired: item i is the same question to every member, with one denominator; False where each has its own items.
        names: for each member what each of its items is, by which it is known again in another repeat; None where no
            repeat can have it again.
    """

    numerators: Mapping[Member, Tensor]
    denominators: Mapping[Member, Tensor]
    paired: bool = True
    names: Mapping[Member, Sequence[Hashable]] | None = None

    @classmethod
    def mean(
        cls,
        values: Mapping[Member, Tensor],
        paired: bool = True,
        names: Mapping[Member, Sequence[Hashable]] | None = None,
    ) -> "Items":
        """Make items whose mean is the metric."""
        return cls(values, {member: torch.ones_like(items) for member, items in values.items()}, paired, names)


@dataclass(frozen=True)
class Scores:
    """What an evaluator measured of one metric: a value for each member, reduced over ranks, and the floor.

    Args:
        metric: which.
        members: values. A reference that is no SAE stands among them as a member of its own, with seed 0.
        floor: the score of an SAE that does nothing, or of chance; a mapping with one for each part where they differ,
            or for each member where they depend on its size, its live latents or its directions; None where another
            evaluator logs it.
        items: what the values are made of, equal on every rank; None where they are not made of items.
        repeats: values of each member by evaluator seed, whose mean is its value (`Repeated`); None where there is one.
        undefined: why a value that is not finite is none, for a warning.
    """

    metric: Metric
    members: Mapping[Member, Tensor | float]
    floor: Tensor | float | Mapping[str, Any] | Mapping[Member, Any] | None
    items: Items | None = None
    repeats: Mapping[Member, Sequence[float]] | None = None
    undefined: str = "there is nothing to average, or the SAE has weights that are not finite"

    @property
    def member_floors(self) -> dict[Member, float]:
        """Floors of single members, where they have their own; without those that are not finite."""
        floors = self.floor if isinstance(self.floor, Mapping) else {}
        own = {member: float(floor) for member, floor in floors.items() if isinstance(member, Member)}
        return {member: floor for member, floor in own.items() if math.isfinite(floor)}

    def floors_by_part(self, saes: Collection[Member]) -> dict[str, Tensor | float]:
        """Return one floor for each part: that of the part, or the mean over its SAEs.

        Args:
            saes: members that are no references, whose floors may be of another kind: that of a probe on everything is
                higher than that of a probe on one latent.
        """
        if self.floor is None:
            return {}
        if not isinstance(self.floor, Mapping):
            return dict.fromkeys(by_part(saes), self.floor)
        floors = {part: floor for part, floor in self.floor.items() if not isinstance(part, Member)}
        own = self.member_floors
        for part, members in by_part(member for member in self.floor if isinstance(member, Member)).items():
            finite = [own[member] for member in members if member in own and member in saes]
            floors[part] = fmean(finite) if finite else math.nan
        return floors

    def not_finite(self) -> list[Member]:
        """Return the members whose value is not a number, or infinite."""
        return [member for member, value in self.members.items() if not math.isfinite(float(value))]


def join_ranks(own: Sequence[Scores], order: Sequence[Member]) -> list[Scores]:
    """Return the scores of all members, of which ranks have measured different ones; a collective call.

    Args:
        own: of the members of this rank.
        order: of the members of the run; what stands beside them follows.
    """
    if world_size(Ranks.OTHER_MEMBERS) == 1:
        return list(own)
    by_metric: dict[str, list[Scores]] = {}
    for of_rank in all_gather_object([_on_cpu(scores) for scores in own], Ranks.OTHER_MEMBERS):
        for scores in of_rank:
            by_metric.setdefault(scores.metric.name, []).append(scores)
    return [_join(parts, order) for parts in by_metric.values()]


def _on_cpu(scores: Scores) -> Scores:
    def moved(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, Mapping):
            return {key: moved(item) for key, item in value.items()}
        return value.cpu() if isinstance(value, Tensor) else value

    items = scores.items
    if items is not None:
        items = replace(items, numerators=moved(items.numerators), denominators=moved(items.denominators))
    return replace(scores, members=moved(scores.members), floor=moved(scores.floor), items=items)


def _join(parts: Sequence[Scores], order: Sequence[Member]) -> Scores:
    """Join scores of one metric from several ranks; what two ranks have measured is the same."""
    first = parts[0]
    floors = [one.floor for one in parts if isinstance(one.floor, Mapping)]
    floor = _union(floors) if floors else first.floor
    items = [one.items for one in parts if one.items is not None]
    joined = None
    if len(items) == len(parts):
        names = None if items[0].names is None else _union([one.names for one in items], order)
        joined = Items(
            _union([one.numerators for one in items], order),
            _union([one.denominators for one in items], order),
            all(one.paired for one in items),
            names,
        )
    repeats = None if first.repeats is None else _union([one.repeats for one in parts], order)
    members = _union([one.members for one in parts], order)
    return replace(first, members=members, floor=floor, items=joined, repeats=repeats)


def _union(mappings: Sequence[Mapping[Any, Any] | None], order: Sequence[Member] = ()) -> dict[Any, Any]:
    """Return all entries, those named in an order first; of equal keys the first."""
    joined: dict[Any, Any] = {}
    for mapping in mappings:
        for key, value in (mapping or {}).items():
            joined.setdefault(key, value)
    return {key: joined[key] for key in order if key in joined} | joined
