"""`Scores`: what an evaluator measured of one metric, and `Items`: what its values are made of."""

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

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
