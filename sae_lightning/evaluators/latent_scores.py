"""`LatentScores`: what an evaluator measured of single latents."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sae_lightning.distributed import Ranks, all_gather_object
from sae_lightning.members import Member


@dataclass(frozen=True)
class LatentScores:
    """A quantity that single latents have.

    Args:
        name: for files, such as `interp_accuracy`.
        label: in plain words, for tables.
        members: [d_sae] for each member; nan for a latent of which it was not measured.
        is_quality: whether more of it makes a latent better: a task was solved with it.
    """

    name: str
    label: str
    members: Mapping[Member, Tensor]
    is_quality: bool = True


def mean_over_draws(scores: Iterable[LatentScores]) -> list[LatentScores]:
    """Join those of one name, which an evaluator has of each of its draws: means over the draws that have a value."""
    draws: dict[str, list[LatentScores]] = {}
    for each in scores:
        draws.setdefault(each.name, []).append(each)
    return [replace(of_name[0], members=_means(of_name)) for of_name in draws.values()]


def _means(draws: Iterable[LatentScores]) -> dict[Member, Tensor]:
    by_member: dict[Member, list[Tensor]] = {}
    for draw in draws:
        for member, values in draw.members.items():
            by_member.setdefault(member, []).append(values.double())
    return {member: torch.stack(values).nanmean(0) for member, values in by_member.items()}


def join_latents(own: Sequence[LatentScores]) -> list[LatentScores]:
    """Return the scores of the latents of all members, of which ranks have measured different ones; collective."""
    on_cpu = [replace(each, members={one: values.cpu() for one, values in each.members.items()}) for each in own]
    return [each for of_rank in all_gather_object(on_cpu, Ranks.OTHER_MEMBERS) for each in of_rank]
