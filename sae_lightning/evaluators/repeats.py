"""`Repeated`: the same question with other seeds of the evaluator, on the same SAEs.

What an evaluator draws (examples, prompts, latents, texts, images) is a source of noise beside the seed of training:
on one SAE, scores of common benchmarks differ by as much as SAEs do (Chanin 2026, arXiv 2605.18229). A value is the
mean over `n_repeats` draws. All members get the same draws, so a difference of two members is paired by repeat.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from typing_extensions import override

from sae_lightning.checks import check_whole
from sae_lightning.evaluators.base import Evaluator
from sae_lightning.evaluators.scores import Items, Scores
from sae_lightning.members import Member
from sae_lightning.saes.module import SAEModule

# Far apart, since some evaluators add the number of a latent to their seed.
_STRIDE = 0x9E37_79B1


def seed_of(seed: int, repeat: int) -> int:
    """Return the seed of a repeat; the first has the evaluator's own.

    >>> seed_of(42, 0)
    42
    """
    return seed + repeat * _STRIDE


class Repeated(Evaluator, ABC):
    """An evaluator whose result depends on what it draws.

    Args:
        n_repeats: draws that the values are means over, 1 or more. The first is that of n_repeats: 1.
        *arguments: of the class beside this one.
    """

    def __init__(self, n_repeats: int, *arguments: Any) -> None:
        check_whole(1, n_repeats=n_repeats, hint="the draws that values are means over")
        super().__init__(*arguments)
        self.n_repeats = n_repeats

    @abstractmethod
    def scores_by_repeat(self, trainer: Trainer, module: SAEModule, stage: str) -> Iterable[Iterable[Scores]]:
        """Return the scores of each of `n_repeats` draws; what depends on no draw is computed once for all."""

    @override
    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> Iterator[Scores]:
        """Return means over the draws."""
        by_repeat = [
            {scores.metric.name: scores for scores in scores_of_repeat}
            for scores_of_repeat in self.scores_by_repeat(trainer, module, stage)
        ]
        for name in by_repeat[0]:
            yield mean_over_repeats([scores[name] for scores in by_repeat if name in scores])


def mean_over_repeats(repeats: Sequence[Scores]) -> Scores:
    """Return the means of values and floors, with the values themselves as `repeats`; one repeat as it is.

    A member without a finite value in some repeat has none.
    """
    first = repeats[0]
    if len(repeats) == 1:
        return first
    values = {
        member: tuple(float(scores.members.get(member, torch.nan)) for scores in repeats) for member in first.members
    }
    means = {member: sum(of_member) / len(of_member) for member, of_member in values.items()}
    mean = replace(first, members=means, floor=_mean_floor([scores.floor for scores in repeats]))
    lost = set(mean.not_finite())
    items = [scores.items for scores in repeats if scores.items is not None]
    return replace(
        mean,
        repeats={member: of_member for member, of_member in values.items() if member not in lost},
        items=joined_items(items) if len(items) == len(repeats) else None,
    )


def _mean_floor(floors: Sequence[Any]) -> Any:
    first = floors[0]
    if isinstance(first, Mapping):
        return {key: _mean_floor([floor.get(key, torch.nan) for floor in floors]) for key in first}
    return None if first is None else sum(map(float, floors)) / len(floors)


def joined_items(repeats: Sequence[Items]) -> Items:
    """Join the items of all repeats, so that each member's ratio is the mean over repeats.

    An item that several repeats have is one item: it is one document or latent, however often it was drawn, and
    intervals that took it for several would be too narrow. Each repeat has the weight of any other.

    Args:
        repeats: with the same members; those without names are taken for different items.
    """
    numerators, denominators, names = {}, {}, {}
    for member in repeats[0].numerators:
        places: dict[Hashable, int] = {}
        parts: list[tuple[list[int], Tensor]] = []
        for number, items in enumerate(repeats):
            own: Sequence[Hashable] = _names(items, member, number)
            which = [places.setdefault(name, len(places)) for name in own]
            both = torch.stack([items.numerators[member], items.denominators[member]]).double().cpu()
            parts.append((which, both / both[1].sum() / len(repeats)))
        joined = torch.zeros(2, len(places), dtype=torch.float64)
        for which, both in parts:
            joined.index_add_(1, torch.tensor(which, dtype=torch.int64), both)
        # Of the size that one repeat would have, for readers to whom a denominator is a count.
        numerators[member], denominators[member] = joined * len(places)
        names[member] = list(places)
    return Items(numerators, denominators, all(items.paired for items in repeats), names)


def _names(items: Items, member: Member, repeat: int) -> Sequence[Hashable]:
    if items.names is None:
        return [(repeat, i) for i in range(len(items.numerators[member]))]
    return items.names[member]
