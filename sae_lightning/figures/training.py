"""Metrics over training: what an SAE learns, and how far its dictionary moves for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from sae_lightning.figures.chart import Chart
from sae_lightning.figures.lines import Guide, Lines, Series
from sae_lightning.figures.recovery import RECOVERY
from sae_lightning.members import Tag, in_order
from sae_lightning.runs import Run, Validation


@dataclass(frozen=True)
class Curve:
    """A metric over training, an entry for each validation.

    Args:
        samples: activations seen.
        mean: over seeds.
        least: of the seeds.
        greatest: of the seeds.
    """

    samples: list[int]
    mean: list[float]
    least: list[float]
    greatest: list[float]


def curves(validations: Sequence[Validation], tag: Tag) -> dict[str, Curve]:
    """Collect a metric by policy; a validation that did not measure it, or found no number, is passed over."""
    collected: dict[str, Curve] = {}
    for validation in validations:
        by_policy: dict[str, list[float]] = {}
        for member, value in validation.values.get(tag, {}).items():
            if value is not None:
                by_policy.setdefault(member.policy, []).append(value)
        for policy, values in by_policy.items():
            curve = collected.setdefault(policy, Curve([], [], [], []))
            curve.samples.append(validation.samples)
            curve.mean.append(fmean(values))
            curve.least.append(min(values))
            curve.greatest.append(max(values))
    return collected


def sae_policies(run: Run, part: str) -> set[str]:
    """Return what is an SAE of a part, and no reference beside them: what has decoder directions, which can move."""
    exported = {member.policy for member in run.saes if member.part == part}
    moved = run.measurements.by_policy(Tag("cosine_to_start_mean", part))
    values = run.measurements.values
    return exported | set(moved) or {member.policy for tag in values if tag.part == part for member in values[tag]}


def training_chart(run: Run, tag: Tag) -> Lines | None:
    """Draw the mean of a metric over seeds, with a band from the least to the greatest; None if it was not measured."""
    saes = sae_policies(run, tag.part)
    by_policy = {policy: curve for policy, curve in curves(run.validations, tag).items() if policy in saes}
    if not by_policy:
        return None
    has_bands = len({member.seed for own in run.validations for member in own.values.get(tag, ())}) > 1
    series = []
    for policy in in_order(by_policy):
        curve = by_policy[policy]
        low, high = (curve.least, curve.greatest) if has_bands else ([], [])
        series.append(Series(name=policy, x=curve.samples, y=curve.mean, low=low, high=high))
    floors = [floor for validation in run.validations if (floor := validation.floors.get(tag)) is not None]
    return Lines(
        title=f"{run.measurements.label(tag)}, over training",
        name=str(tag),
        about=run.measurements.metric(tag).computed,
        series=series,
        x="activations seen",
        y=tag.metric.replace("_", " "),
        guides=[Guide(floor, "floor") for floor in floors[-1:]],
        percent=tag.metric == RECOVERY,
    )


def training_charts(run: Run, part: str, metrics: Sequence[str]) -> list[Chart]:
    """Draw each of the metrics that the run has measured."""
    charts = [training_chart(run, Tag(metric, part)) for metric in metrics]
    return [chart for chart in charts if chart is not None]
