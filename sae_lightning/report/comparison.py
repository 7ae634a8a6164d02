"""Experiments beside each other: the settings in which they differ, their numbers, and their curves in one chart."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from sae_lightning.figures.chart import Chart, Table, least_ends
from sae_lightning.figures.lines import Guide, Lines, Series
from sae_lightning.figures.look import MUTED
from sae_lightning.figures.scatter import Scatter
from sae_lightning.figures.training import curves
from sae_lightning.figures.verdict import headlines
from sae_lightning.members import RANDOM_BASELINES, TRAINED, Style, Tag, in_order, policy_title
from sae_lightning.nouns import noun
from sae_lightning.report.section import Group
from sae_lightning.runs import Experiment, describing
from sae_lightning.runs.settings import Settings
from sae_lightning.tables import number_format
from sae_lightning.verdict.text import mean_and_deviation

_SAME = "default"
_MOST_NAME = 16
"""Characters of a name beside a chart that stay on one line."""
_FLOOR = Style(MUTED, "|", "none")


def comparison(experiments: Sequence[Experiment]) -> list[Group]:
    """Return what several experiments have side by side; nothing where there is none.

    Args:
        experiments: in the order of the page.
    """
    if not experiments:
        return []
    tables = [_glance(experiments)]
    if rows := list(_settings(experiments)):
        tables.insert(0, Table("Settings that differ", ["option", *map(title_of, experiments)], rows, prose=True))
    groups = [Group(tables=tables), Group("At the end", "The mean over seeds.", list(_ends(experiments)))]
    lead = (
        f"The trained {noun()} of each, at each validation: the mean over seeds; bands from the least to the greatest."
    )
    groups.append(Group("Over training", lead, list(_curves(experiments))))
    return [group for group in groups if group.tables or group.charts]


def title_of(experiment: Experiment) -> str:
    """Return the names of its runs."""
    return experiment.name.replace("+", " + ")


def _settings(experiments: Sequence[Experiment]) -> Iterator[list[str]]:
    """Yield a row for each option in which not all agree, seeds included."""
    settings = [Settings.of(experiment.runs[0]) for experiment in experiments]
    first = next((own for own in settings if own), None)
    if first is None:
        return
    for option in sorted({option for own in settings if own for option in first.differing_options(own)}):
        yield [_typed(option, first), *(_value(own, option) for own in settings)]
    seeds = [_text(sorted({seed for run in experiment.runs for seed in run.seeds})) for experiment in experiments]
    if len(set(seeds)) > 1:
        yield ["seeds", *seeds]


def _typed(option: str, settings: Settings) -> str:
    return option if settings.is_panel else option.replace("model.sae", "model", 1)


def _value(settings: Settings | None, option: str) -> str:
    if settings is None:
        return "not known"
    if option in settings.shared:
        return _text(settings.shared[option])
    own = {policy: values[option] for policy, values in settings.policies.items() if option in values}
    return "; ".join(f"{policy_title(policy)} {_text(value)}" for policy, value in own.items()) or _SAME


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    is_class = isinstance(value, str) and value.startswith(("sae_lightning.", "torch."))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value).rpartition(".")[2] if is_class else "not set" if value is None else str(value)


def _glance(experiments: Sequence[Experiment]) -> Table:
    """Experiments under each other, with a metric for each question."""
    shown, rows = _headlines(experiments), []
    for experiment in experiments:
        values = experiment.values()
        for policy in _policies(experiment):
            cells = [values.get(tag, {}).get(policy, []) for tag in shown]
            if any(value is not None for cell in cells for value in cell):
                texts = [mean_and_deviation(cell, number_format(cell, is_short=True)) for cell in cells]
                rows.append([title_of(experiment), policy_title(policy), *texts])
    runs = [run for experiment in experiments for run in experiment.measured]
    labels = [describing(runs, tag).label(tag) for tag in shown]
    caption = "Mean ± sample standard deviation over seeds, one metric for each question"
    return Table(caption, ["experiment", noun(), *labels], rows)


def _ends(experiments: Sequence[Experiment]) -> Iterator[Chart]:
    """Draw for each question the SAEs at the end of training, a row for each experiment, where two or more asked it."""
    measured = [run for experiment in experiments for run in experiment.measured]
    values, floors = [one.values() for one in experiments], [one.floors() for one in experiments]
    policies = in_order(policy for experiment in experiments for policy in _policies(experiment))
    for tag in _headlines(experiments):
        have = [place for place, own in enumerate(values) if any(own.get(tag, {}).get(policy) for policy in policies)]
        have.reverse()  # the first at the top
        series = []
        for policy in policies:
            ends = [
                [value for value in values[place].get(tag, {}).get(policy, []) if value is not None] for place in have
            ]
            rows = [row for row, seeds in enumerate(ends) if seeds]
            series += [Series(policy, [fmean(ends[row]) for row in rows], rows)] if rows else []
        known = [(floor, row) for row, place in enumerate(have) if (floor := floors[place].get(tag)) is not None]
        if known:
            series.append(Series("floor", [x for x, _ in known], [y for _, y in known], style=_FLOOR, label="floor"))
        if len(have) > 1:
            names, label = (
                [_in_lines(title_of(experiments[place])) for place in have],
                describing(measured, tag).label(tag),
            )
            yield Scatter(label, "", "", series, name=str(tag), y_names=names)


def _in_lines(name: str) -> str:
    """Break a long name of a run before its version, so that it leaves the chart some room."""
    return name.replace("/", "/\n") if len(name) > _MOST_NAME else name


def _curves(experiments: Sequence[Experiment]) -> Iterator[Chart]:
    """Draw the trained SAE of each experiment over training, a chart for each question that was asked twice or more."""
    for tag in _headlines(experiments):
        series = [
            replace(curve, name=name, label=name)
            for experiment in experiments
            for name, curve in _trained(experiment, tag)
        ]
        if max((len(one.x) for one in series), default=0) > 1:
            measured = [experiment.runs[0].measurements for experiment in experiments]
            floors = {floor for run in measured if (floor := run.floor(tag)) is not None}
            guides = [Guide(floor, "floor") for floor in floors] if len(floors) == 1 else []
            y = describing(measured, tag).label(tag)
            ends = least_ends((value for one in series for value in one.y), next(iter(floors), None))
            yield Lines(y, "activations seen", y, series, name=str(tag), guides=guides, y_includes=ends)


def _trained(experiment: Experiment, tag: Tag) -> Iterator[tuple[str, Series]]:
    """Yield the curve of the trained SAE with the name of the experiment, of a family one for each size."""
    run = experiment.runs[0]
    sizes = {policy: size for policy, (size, kind) in run.measurements.sizes.items() if kind == TRAINED}
    for policy, curve in curves(run.validations, tag).items():
        if policy in (sizes or (TRAINED,)):
            yield f"{title_of(experiment)} {sizes.get(policy, '')}".strip(), curve


def _headlines(experiments: Iterable[Experiment]) -> list[Tag]:
    runs = [run for experiment in experiments for run in experiment.measured]
    return headlines(runs, dict.fromkeys(tag for run in runs for tag in run.values if run.better(tag)))


def _policies(experiment: Experiment) -> Sequence[str]:
    """Return what is shown at a glance: the trained SAE and random baselines, of a family all sizes."""
    saes = {member.policy for run in experiment.runs for member in run.saes}
    sizes = dict.fromkeys(policy for run in experiment.runs for policy in run.measurements.sizes)
    # Beside a size stand references too, random directions as many as it has latents.
    return [policy for policy in sizes if policy in saes or not saes] or (TRAINED, *RANDOM_BASELINES)
