"""A metric across the sizes of a family, or across hooks: one chart in place of one for each."""

from collections.abc import Sequence
from statistics import fmean

from sae_lightning.figures.chart import least_ends
from sae_lightning.figures.lines import Lines, Series
from sae_lightning.figures.look import CHANCE
from sae_lightning.members import Tag, in_order, natural_order
from sae_lightning.runs import Measurements, describing


def across_parts(runs: Sequence[Measurements], tags: Sequence[Tag]) -> Lines | None:
    """Draw a metric of several parts, the mean over seeds of each policy, with the floor of each part.

    Args:
        runs: of one experiment, of a family with each size as a part.
        tags: of one metric.

    Returns:
        The chart; None for a single part, or where parts are published SAEs, which are no row of sizes.
    """
    if len(tags) < 2 or any(run.reference_parts for run in runs):
        return None
    tags = sorted(tags, key=lambda tag: natural_order(tag.part))
    points: dict[str, dict[int, float]] = {}
    floors: dict[int, float] = {}
    for place, tag in enumerate(tags):
        seeds: dict[str, list[float]] = {}
        for run in runs:
            for member, value in run.values.get(tag, {}).items():
                seeds.setdefault(member.policy, []).extend([] if value is None else [value])
        for policy, values in seeds.items():
            if values:
                points.setdefault(policy, {})[place] = fmean(values)
        floor = next((floor for run in runs if (floor := run.floor(tag)) is not None), None)
        floors |= {} if floor is None else {place: floor}
    series = [Series(policy, list(points[policy]), list(points[policy].values())) for policy in in_order(points)]
    if floors:
        series.append(Series("floor", list(floors), list(floors.values()), style=CHANCE, label="floor"))
    metric, names = describing(runs, tags[0]).metric(tags[0]), [tag.part for tag in tags]
    y = metric.name.replace("_", " ")
    ends = least_ends((value for own in series for value in own.y), min(floors.values(), default=None))
    return Lines(metric.label, "", y, series, name=metric.name, about=metric.computed, x_names=names, y_includes=ends)
