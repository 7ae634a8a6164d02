"""Headline metrics over what experiments differ in: how many latents fire, how long is trained, what may move.

Bands are intervals of each mean by itself, over seeds; an experiment of one seed has none.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TypeAlias

from sae_lightning.evaluators.agreement import AGREES
from sae_lightning.figures.headlines import axis_ends, headline_tags, is_reference
from sae_lightning.figures.lines import Guide, Lines, Series
from sae_lightning.figures.look import CHANCE
from sae_lightning.figures.verdict import by_question
from sae_lightning.members import TRAINED, Style, Tag, in_order, policy_styles, policy_title
from sae_lightning.runs import Experiment, Measurements, describing
from sae_lightning.runs.drift import NO_LIMIT, least_cosines
from sae_lightning.verdict.decide import floor_of
from sae_lightning.verdict.differences import mean_of, values_of
from sae_lightning.verdict.statistics import Difference

_SOFT = "soft_frozen_decoder"
_Points: TypeAlias = list[tuple[float | int, Difference]]
_Place: TypeAlias = Callable[[Experiment, Tag, str], float | int | None]
"""Where a policy of an experiment stands on the x axis."""


def l0_charts(variants: Sequence[Sequence[Experiment]]) -> list[Lines]:
    """Draw each headline against the measured l0: a row for each and, of several variants, a column for each.

    Args:
        variants: for each variant the experiments that differ in sparsity alone.
    """
    tags, charts = _headlines(experiment for own in variants for experiment in own), []
    for tag in tags:
        for own in variants:
            chart = _chart(own, tag, _l0, "active latents a sample (l0)")
            charts.append(replace(chart, title=variant_of(own[0])) if len(variants) > 1 else chart)
    return charts


def length_charts(experiments: Sequence[Experiment]) -> list[Lines]:
    """Draw each headline, and how far seeds agree, against the length of training."""
    tags = dict.fromkeys([*_headlines(experiments), *_agreement(experiments)])
    return [_chart(experiments, tag, _samples, "activations seen in training") for tag in tags]


def soft_freeze_charts(experiments: Sequence[Experiment]) -> list[Lines]:
    """Draw each headline against the least cosine that a soft freeze allows, and an SAE that nothing keeps back."""
    charts, limits = [], [(experiment, soft_limits(experiment)) for experiment in experiments]
    for tag in _headlines(experiments):
        soft: _Points = []
        free: list[float] = []
        for experiment, own in limits:
            for policy, limit in own.items():
                if (mean := mean_of(experiment.measurements, tag, policy)) is None:
                    continue
                if limit == NO_LIMIT:
                    free.append(mean.mean)
                else:
                    soft.append((limit, mean))
        guides = [Guide(fmean(free), f"{policy_title(TRAINED)}, no limit", style=_unmarked(TRAINED))] if free else []
        runs = _measured(experiments)
        if (floor := floor_of(runs, tag, TRAINED)) is not None:
            guides.append(Guide(floor, "floor"))
        x = "least cosine of a direction to its start"
        charts.append(_lines(runs, tag, [_series(_SOFT, soft)], x, guides=guides))
    return charts


def soft_limits(experiment: Experiment) -> dict[str, float]:
    """Return by policy the least cosine that it allows; of a soft freeze, or of none at all."""
    limits: dict[str, float] = {}
    for run in experiment.runs:
        limits |= least_cosines(run.model["init_args"].get("policies"), run.settings.get("freeze"))
    return limits


def variant_of(experiment: Experiment) -> str:
    """Name the variant of an experiment by its class."""
    return str(experiment.runs[0].sae["class_path"]).rpartition(".")[2]


def _chart(experiments: Sequence[Experiment], tag: Tag, place: _Place, x: str) -> Lines:
    """Draw a metric of every SAE over its place, and the floor of the trained one."""
    points: dict[str, _Points] = {}
    floors: list[tuple[float | int, float]] = []
    for experiment in experiments:
        runs = experiment.measurements
        for policy in {member.policy for run in runs for member in run.values.get(tag, ())}:
            where, mean = place(experiment, tag, policy), mean_of(runs, tag, policy)
            if where is None or mean is None or is_reference(runs, tag, policy):
                continue
            points.setdefault(policy, []).append((where, mean))
            if policy == TRAINED and (floor := floor_of(runs, tag, TRAINED)) is not None:
                floors.append((where, floor))
    series = [_series(policy, points[policy]) for policy in in_order(points)]
    levels = {floor for _, floor in floors}
    if len(levels) > 1:
        places, heights = zip(*sorted(floors), strict=True)
        series.append(Series("floor", places, heights, style=CHANCE, label="floor"))
    guides = [Guide(floor, "floor") for floor in levels if len(levels) == 1]
    return _lines(_measured(experiments), tag, series, x, guides=guides, log_x=True)


def _lines(
    runs: Sequence[Measurements],
    tag: Tag,
    series: Sequence[Series],
    x: str,
    guides: Sequence[Guide],
    log_x: bool = False,
) -> Lines:
    ends = [end for end in axis_ends(runs, tag) if end is not None]
    describes = describing(runs, tag)
    return Lines(
        describes.label(tag),
        x,
        describes.metric(tag).label,
        series,
        guides=guides,
        log_x=log_x,
        y_includes=ends,
        name=str(tag),
        about=describes.metric(tag).computed,
    )


def _series(policy: str, points: _Points) -> Series:
    """Join points in the order of x, with a band where seeds say how much a mean varies."""
    points = sorted(points, key=lambda point: point[0])
    x, means = [x for x, _ in points], [mean.mean for _, mean in points]
    halves = [mean.half if mean.half > 0 else 0.0 for _, mean in points]
    low, high = ([mean + sign * half for mean, half in zip(means, halves, strict=True)] for sign in (-1, 1))
    return Series(policy, x, means, *((low, high) if any(halves) else ()))


def _unmarked(policy: str) -> Style:
    style = policy_styles([policy])[policy]
    return Style(style.colour, "", style.line)


def _measured(experiments: Iterable[Experiment]) -> list[Measurements]:
    return [run for experiment in experiments for run in experiment.measurements]


def _headlines(experiments: Iterable[Experiment]) -> list[Tag]:
    return headline_tags(_measured(experiments))


def _agreement(experiments: Sequence[Experiment]) -> list[Tag]:
    """Return the first metric of how far seeds agree, of every part that has it."""
    runs = _measured(experiments)
    by_name = {question.name: tags for question, tags in by_question(runs, _all_tags(runs)).items()}
    tags = by_name.get(AGREES.name, [])
    return [tag for tag in tags if tag.metric == tags[0].metric]


def _all_tags(runs: Sequence[Measurements]) -> list[Tag]:
    return list(dict.fromkeys(tag for run in runs for tag in run.values))


def _l0(experiment: Experiment, tag: Tag, policy: str) -> float | None:
    values = values_of(experiment.measurements, Tag("l0", tag.part), policy).values()
    return fmean(values) if values else None


def _samples(experiment: Experiment, tag: Tag, policy: str) -> int:
    return experiment.runs[0].last.samples
