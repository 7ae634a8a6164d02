"""Members of one size: what is drawn at random for an SAE has as many latents as this one.

In a family a reference such as `random_directions` stands beside each size, as `x8_random_directions`, and the verdict
compares it with the SAEs of that size alone.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sae_lightning.members import Member, by_part
from sae_lightning.saes.module import SAEModule


@dataclass(frozen=True)
class SameSize:
    """Members that read one part of the activations and have equally many latents.

    Args:
        part: of the activations.
        d_sae: latents of each.
        members: one or more.
        prefix: of the names of references; empty where all members of the part have one size.
    """

    part: str
    d_sae: int
    members: tuple[Member, ...]
    prefix: str

    def reference(self, name: str) -> Member:
        """Name a reference of this size."""
        return Member(self.prefix + name, 0, self.part)


def same_sizes(module: SAEModule, members: Iterable[Member] | None = None) -> Iterator[SameSize]:
    """Group the members of a run by part and number of latents, also those on other ranks.

    Args:
        module: whose members.
        members: those whose parts are looked at; by default all.
    """
    saes = module.all_members
    parts = by_part(saes if members is None else members)
    for part, members_of_part in by_part(member for member in saes if member.part in parts).items():
        sizes: dict[int, list[Member]] = {}
        for member in members_of_part:
            sizes.setdefault(saes[member].d_sae, []).append(member)
        prefixes: list[str] = []
        for d_sae, own in sizes.items():
            prefix = f"{module.sizes.get(own[0].policy, (f'd{d_sae}',))[0]}_"
            # Controls of a reference are of its group, and some of them have another number of latents.
            prefixes.append(f"{prefix}d{d_sae}_" if prefix in prefixes else prefix)
            yield SameSize(part, d_sae, tuple(own), "" if len(sizes) == 1 else prefixes[-1])
