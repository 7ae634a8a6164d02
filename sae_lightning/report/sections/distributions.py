"""Firing frequencies and drift, over latents."""

from collections.abc import Iterator

from sae_lightning.figures.sparsity import distribution_charts
from sae_lightning.report.section import Group, Section
from sae_lightning.runs import Run


def distributions(run: Run) -> Iterator[Section]:
    """Show what TensorBoard has kept."""
    charts = [chart for part in run.parts for chart in distribution_charts(run, part)]
    lead = (
        "Distributions over the latents of the first seed at the last validation, in the bins that TensorBoard keeps. "
        "Latents that never fired have no frequency; a frozen decoder, with all directions in one bin, is left out."
    )
    if charts:
        yield Section("distributions", "Firing frequency and drift", lead, [Group(charts=charts)])
