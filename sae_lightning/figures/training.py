"""Metrics over training: what an SAE learns, and how far its dictionary moves for it."""

from collections.abc import Sequence
from statistics import fmean

from sae_lightning.figures.chart import least_ends
from sae_lightning.figures.lines import Guide, Lines, Series
from sae_lightning.figures.recovery import RECOVERY
from sae_lightning.members import Tag, in_order
from sae_lightning.runs import Run, Validation


def curves(validations: Sequence[Validation], tag: Tag) -> dict[str, Series]:
    """Collect a metric by policy: the mean over seeds at each validation and, of several, the least and greatest.

    A validation that did not measure it, or had no number, is passed over.
    """
    points: dict[str, dict[int, list[float]]] = {}
    for number, validation in enumerate(validations):
        for member, value in validation.values.get(tag, {}).items():
            if value is not None:
                points.setdefault(member.policy, {}).setdefault(number, []).append(value)
    series = {}
    for policy in in_order(points):
        seeds = list(points[policy].values())
        samples = [validations[number].samples for number in points[policy]]
        band = ([min(own) for own in seeds], [max(own) for own in seeds]) if max(map(len, seeds)) > 1 else ()
        series[policy] = Series(policy, samples, [fmean(own) for own in seeds], *band)
    return series


def sae_policies(run: Run, part: str) -> set[str]:
    """Return what is an SAE of a part, and no reference beside them: what has decoder directions, which can move."""
    exported = {member.policy for member in run.saes if member.part == part}
    moved = run.measurements.by_policy(Tag("cosine_to_start_mean", part))
    values = run.measurements.values
    return exported | set(moved) or {member.policy for tag in values if tag.part == part for member in values[tag]}


def training_charts(run: Run, part: str, metrics: Sequence[str]) -> list[Lines]:
    """Draw each of the metrics that the run has measured on a part."""
    saes, charts = sae_policies(run, part), []
    for tag in (Tag(metric, part) for metric in metrics):
        series = [curve for policy, curve in curves(run.validations, tag).items() if policy in saes]
        floors = [floor for validation in run.validations if (floor := validation.floors.get(tag)) is not None]
        guides = [Guide(floor, "floor") for floor in floors[-1:]]
        metric, is_share = run.measurements.metric(tag), tag.metric == RECOVERY
        title, y, about = f"{run.measurements.label(tag)}, over training", metric.label, metric.computed
        ends = least_ends((value for curve in series for value in curve.y), floors[-1] if floors else None)
        chart = Lines(
            title,
            "activations seen",
            y,
            series,
            name=str(tag),
            about=about,
            guides=guides,
            percent=is_share,
            y_includes=ends,
        )
        charts += [chart] if series else []
    return charts
