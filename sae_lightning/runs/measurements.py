"""What the last validation of a run measured: values, floors, what is said of the metrics, and items."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from statistics import fmean
from typing import TypeVar

from sae_lightning.members import TRAINED, Member, Tag
from sae_lightning.metric import Metric, undescribed
from sae_lightning.nouns import SAE
from sae_lightning.runs.items import MetricItems
from sae_lightning.runs.latents import LatentValues

V = TypeVar("V")


@dataclass(frozen=True)
class Measurements:
    """A validation, for a verdict, a table or a chart.

    Args:
        values: of each metric by member; None for a value that is not finite.
        floors: of each metric that has one.
        metrics: descriptions by name.
        items: what the values were averaged over.
        nulls: parts that are null versions of the activations.
        sizes: by policy the size and what the policy is among those of that size; empty for SAEs of one size.
        member_floors: floors of single members, of metrics where they have their own.
        repeats: by evaluator seed the values that each value is the mean of, where there are several.
        fingerprints: of the SAEs as they were measured; none of older runs.
        inactive: members whose freeze policy kept nothing back, as the drift of their directions shows.
        references: by policy where an SAE that is measured and not trained was read from.
        controls: by policy what a control of a reference controls for, a clause.
        reference_parts: of `by_size`: by part the reference that is called `trained` there, beside its controls.
        latents: what was measured of single latents, by name.
        noun: what the SAEs are called.
    """

    values: Mapping[Tag, Mapping[Member, float | None]]
    floors: Mapping[Tag, float | None]
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    items: Mapping[Tag, MetricItems] = field(default_factory=dict)
    nulls: tuple[str, ...] = ()
    sizes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    member_floors: Mapping[Tag, Mapping[Member, float]] = field(default_factory=dict)
    repeats: Mapping[Tag, Mapping[Member, Sequence[float]]] = field(default_factory=dict)
    fingerprints: Mapping[Member, str] = field(default_factory=dict)
    inactive: frozenset[Member] = frozenset()
    references: Mapping[str, str] = field(default_factory=dict)
    controls: Mapping[str, str] = field(default_factory=dict)
    reference_parts: Mapping[str, str] = field(default_factory=dict)
    latents: Mapping[str, LatentValues] = field(default_factory=dict)
    noun: str = SAE

    def metric(self, tag: Tag) -> Metric:
        """Return what is said of a metric; little, where the run does not describe it."""
        return self.metrics.get(tag.metric) or undescribed(tag.metric)

    def better(self, tag: Tag) -> str | None:
        """Return which way is better; None where neither is, as on null data."""
        return None if tag.part in self.nulls else self.metric(tag).better

    def label(self, tag: Tag) -> str:
        """Name a metric of one part in plain words."""
        return self.metric(tag).label + (f" ({tag.part})" if tag.part else "")

    def by_policy(self, tag: Tag) -> dict[str, dict[int, float | None]]:
        """Return the values of a metric by policy and seed."""
        policies: dict[str, dict[int, float | None]] = {}
        for member, value in self.values.get(tag, {}).items():
            policies.setdefault(member.policy, {})[member.seed] = value
        return policies

    def floor(self, tag: Tag, policy: str = "") -> float | None:
        """Return the floor of a metric.

        Args:
            tag: the metric.
            policy: whose floor, the mean over its members, where members have floors of their own; by default the mean
                over SAEs, without references.
        """
        floors = [floor for member, floor in self.member_floors.get(tag, {}).items() if member.policy == policy]
        return fmean(floors) if floors else self.floors.get(tag)

    def of_part(self, part: str) -> set[str]:
        """Return the policies and references that any metric of a part has."""
        return {member.policy for tag, members in self.values.items() if tag.part == part for member in members}

    def is_reference(self, policy: str) -> bool:
        """Return whether something that was measured is no SAE, such as `pca`, as far as the run says so."""
        saes = {member.policy for member in self.fingerprints}
        moved = (members for tag, members in self.values.items() if tag.metric.startswith("cosine_to_start"))
        saes = saes or {member.policy for members in moved for member in members}
        return bool(saes) and policy not in saes

    def without(self, left_out: Collection[Member]) -> "Measurements":
        """Leave members out."""
        if not left_out:
            return self

        def kept(tags: Mapping[Tag, Mapping[Member, V]]) -> dict[Tag, dict[Member, V]]:
            rest = {
                tag: {one: own for one, own in members.items() if one not in left_out} for tag, members in tags.items()
            }
            return {tag: own for tag, own in rest.items() if own}

        items = {tag: replace(own, members=kept({tag: own.members}).get(tag, {})) for tag, own in self.items.items()}
        return replace(
            self,
            values=kept(self.values),
            items=items,
            member_floors=kept(self.member_floors),
            repeats=kept(self.repeats),
            latents=self._latents(lambda member: None if member in left_out else member),
        )

    def by_size(self) -> "Measurements":
        """View a family as if each of its sizes were a panel: trained, frozen_decoder and references at `fvu@x8`.

        SAEs of one size are returned as they are. Metrics of a hook become `fvu@early x8`. A published SAE with its
        controls is a size too: there it is `trained`, as `reference_parts` says.
        """
        if not self.sizes:
            return self
        values, floors, items, own_floors, repeats = {}, {}, {}, {}, {}
        sizes = list(dict.fromkeys(size for size, _ in self.sizes.values()))
        for tag, size in product(self.values, sizes):
            name = self._names_within(size)
            sized = Tag(tag.metric, f"{tag.part} {size}".strip())
            values[sized] = _renamed(self.values[tag], name)
            if tag in self.member_floors:
                own_floors[sized] = _renamed(self.member_floors[tag], name)
            floors[sized] = fmean(own_floors[sized].values()) if own_floors.get(sized) else self.floors.get(tag)
            if tag in self.repeats:
                repeats[sized] = _renamed(self.repeats[tag], name)
            if tag in self.items:
                items[sized] = replace(self.items[tag], members=_renamed(self.items[tag].members, name))
        fingerprints: dict[Member, str] = {}
        for size in sizes:
            fingerprints |= _renamed(self.fingerprints, self._names_within(size))
        inactive = [name(member) for name in map(self._names_within, sizes) for member in self.inactive]
        return Measurements(
            values,
            floors,
            self.metrics,
            items,
            tuple(f"{null} {size}" for null, size in product(self.nulls, sizes)),
            member_floors=own_floors,
            repeats=repeats,
            fingerprints=fingerprints,
            inactive=frozenset(member for member in inactive if member),
            references=self.references,
            controls={self.sizes.get(policy, ("", policy))[1]: text for policy, text in self.controls.items()},
            reference_parts=self._reference_parts(),
            latents=self._latents(*(self._names_within(size) for size in sizes)),
            noun=self.noun,
        )

    def _latents(self, *names: Callable[[Member], Member | None]) -> dict[str, LatentValues]:
        """Return what was measured of single latents under other names of the members, all of them side by side."""
        return {
            name: replace(
                values, members={one: own for rename in names for one, own in _renamed(values.members, rename).items()}
            )
            for name, values in self.latents.items()
        }

    def _reference_parts(self) -> dict[str, str]:
        """Return by part, as `by_size` names it, the reference that stands there in the place of the trained SAE."""
        groups = {
            size: name for name, (size, kind) in self.sizes.items() if name in self.references and kind == TRAINED
        }
        parts = dict.fromkeys(tag.part for tag in self.values)
        return {f"{part} {size}".strip(): name for part, (size, name) in product(parts, groups.items())}

    def _names_within(self, size: str) -> Callable[[Member], Member | None]:
        """Return what gives a member its name among those of its size, and None to members of other sizes."""
        kinds = {policy: kind for policy, (own, kind) in self.sizes.items() if own == size}

        def name(member: Member) -> Member | None:
            if member.policy in self.sizes and member.policy not in kinds:
                return None
            return Member(kinds.get(member.policy, member.policy), member.seed, f"{member.part} {size}".strip())

        return name


def describing(runs: Sequence[Measurements], tag: Tag) -> Measurements:
    """Return the run of an experiment that says something about a metric, or the first."""
    return next((run for run in runs if tag.metric in run.metrics), runs[0])


def in_order(runs: Sequence[Measurements], tags: Iterable[Tag]) -> list[Tag]:
    """Sort metrics of an experiment by what they ask; those that ask the same stay as its runs have them."""
    metrics = list(dict.fromkeys(tag.metric for run in runs for tag in run.values))
    places = {metric: place for place, metric in enumerate(metrics)}

    def order(tag: Tag) -> tuple[int, int]:
        return describing(runs, tag).metric(tag).question.order, places.get(tag.metric, len(places))

    return sorted(tags, key=order)


def _renamed(members: Mapping[Member, V], name: Callable[[Member], Member | None]) -> dict[Member, V]:
    renamed = {name(member): value for member, value in members.items()}
    return {member: value for member, value in renamed.items() if member is not None}
