"""Metrics over training."""

from collections.abc import Iterator

from sae_lightning.figures.recovery import RECOVERY
from sae_lightning.figures.training import training_charts
from sae_lightning.report.section import Group, Section
from sae_lightning.runs import Run

_ALWAYS = ("explained_variance", RECOVERY, "ce_recovered_mean", "l0", "dead_fraction", "cosine_to_start_mean")


def training(run: Run) -> Iterator[Section]:
    """Show the headline metrics and a few others, where there were two validations or more."""
    described = run.measurements.metrics.values()
    names = list(dict.fromkeys([*_ALWAYS, *(metric.name for metric in described if metric.is_headline)]))
    parts = sorted({tag.part for tag in run.measurements.values})
    charts = [chart for part in parts for chart in training_charts(run, part, names)]
    shown = [chart for chart in charts if max(len(series.x) for series in chart.series) > 1]
    lead = "At each validation: the mean over seeds; bands from the least to the greatest of them."
    if shown:
        yield Section("training", "Training", lead, [Group(charts=shown)])
