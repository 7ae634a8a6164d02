"""Metrics over training."""

from collections.abc import Iterator

from sae_lightning.figures.recovery import RECOVERY
from sae_lightning.figures.training import training_chart
from sae_lightning.members import Tag
from sae_lightning.report.section import Group, Section
from sae_lightning.runs import Run

_ALWAYS = ("explained_variance", RECOVERY, "ce_recovered_mean", "l0", "dead_fraction", "cosine_to_start_mean")


def training(run: Run) -> Iterator[Section]:
    """Show the headline metrics and a few others, where there were two validations or more."""
    metrics = run.measurements.metrics.values()
    names = dict.fromkeys([*_ALWAYS, *(metric.name for metric in metrics if metric.is_headline)])
    tags = run.measurements.values
    parts = sorted({tag.part for tag in tags})
    charts = [training_chart(run, tag) for part in parts for name in names if (tag := Tag(name, part)) in tags]
    shown = [chart for chart in charts if chart is not None and max(len(series.x) for series in chart.series) > 1]
    lead = "At each validation: the mean over seeds; bands from the least to the greatest of them."
    if shown:
        yield Section("training", "Training", lead, [Group(charts=shown)])
