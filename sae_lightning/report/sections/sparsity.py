"""Explained variance against the number of active latents."""

from collections.abc import Iterator

from sae_lightning.figures.sparsity import sparsity_chart
from sae_lightning.report.section import Group, Section
from sae_lightning.runs import Run


def sparsity(run: Run) -> Iterator[Section]:
    """Show a chart for each part that has measured both."""
    charts = [chart for part in run.parts if (chart := sparsity_chart(run, part)) is not None]
    lead = "Up and to the left is better: more explained by fewer active latents. A point for each seed."
    if charts:
        yield Section("sparsity", "Explained variance and sparsity", lead, [Group(charts=charts)])
