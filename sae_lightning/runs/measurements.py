"""What the last validation of a run measured: values, floors, what is said of the metrics, and items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from sae_lightning.members import Member, Tag
from sae_lightning.metric import Metric, undescribed
from sae_lightning.runs.items import MetricItems


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
    """

    values: Mapping[Tag, Mapping[Member, float | None]]
    floors: Mapping[Tag, float | None]
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    items: Mapping[Tag, MetricItems] = field(default_factory=dict)
    nulls: tuple[str, ...] = ()
    sizes: Mapping[str, Sequence[str]] = field(default_factory=dict)

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

    def in_order(self, tags: Sequence[Tag]) -> list[Tag]:
        """Sort metrics by what they ask; those that ask the same stay as the run has them."""
        places = {tag.metric: place for place, tag in reversed(list(enumerate(self.values)))}
        last = len(places)
        return sorted(tags, key=lambda tag: (self.metric(tag).question.order, places.get(tag.metric, last)))

    def by_size(self) -> "Measurements":
        """View a family as if each of its sizes were a panel: trained, frozen_decoder and references at `fvu@x8`.

        SAEs of one size are returned as they are. Metrics of a hook become `fvu@early x8`.
        """
        if not self.sizes:
            return self
        values, floors, items = {}, {}, {}
        sizes = list(dict.fromkeys(size for size, _ in self.sizes.values()))
        for tag, size in product(self.values, sizes):
            kinds = {policy: kind for policy, (own, kind) in self.sizes.items() if own == size}
            part = f"{tag.part} {size}".strip()
            names = {
                member: Member(kinds.get(member.policy, member.policy), member.seed, part)
                for member in self.values[tag]
                if member.policy in kinds or member.policy not in self.sizes
            }
            sized = Tag(tag.metric, part)
            values[sized] = {names[member]: value for member, value in self.values[tag].items() if member in names}
            floors[sized] = self.floors.get(tag)
            if tag in self.items:
                own_items = {
                    names[member]: fractions for member, fractions in self.items[tag].members.items() if member in names
                }
                items[sized] = replace(self.items[tag], members=own_items)
        nulls = tuple(f"{null} {size}" for null, size in product(self.nulls, sizes))
        return Measurements(values, floors, self.metrics, items, nulls)
