"""Metrics over training."""

from collections.abc import Iterator, Sequence

from sae_lightning.figures.lines import Lines
from sae_lightning.figures.recovery import RECOVERY
from sae_lightning.figures.training import training_charts
from sae_lightning.report.section import Group, Section
from sae_lightning.runs import Run

_ALWAYS = ("explained_variance", RECOVERY, "ce_recovered_mean", "l0", "dead_fraction", "cosine_to_start_mean")


def training(run: Run) -> Iterator[Section]:
    """Show the headline metrics and a few others, where there were two validations or more."""
    described = run.measurements.metrics.values()
    names = list(dict.fromkeys([*_ALWAYS, *(metric.name for metric in described if metric.is_headline)]))
    nulls = run.measurements.nulls
    shown = {part: _charts(run, part, names) for part in sorted({tag.part for tag in run.measurements.values})}
    parts = [part for part in shown if part not in nulls and shown[part]]
    groups = [Group(part if len(parts) > 1 else "", charts=shown[part]) for part in parts]
    if on_noise := [chart for part in nulls for chart in shown.get(part, ())]:
        n = len(on_noise)
        title = f"The same on null data ({', '.join(nulls)}): {n} chart{'s' * (n > 1)}"
        groups.append(Group(title, charts=on_noise, is_folded=True))
    lead = "At each validation: the mean over seeds; bands from the least to the greatest of them."
    if groups:
        yield Section("training", "Training", lead, groups)


def _charts(run: Run, part: str, names: Sequence[str]) -> list[Lines]:
    charts = training_charts(run, part, names)
    return [chart for chart in charts if max(len(series.x) for series in chart.series) > 1]
