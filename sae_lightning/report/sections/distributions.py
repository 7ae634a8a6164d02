"""Firing frequencies, and how far directions moved, over latents."""

from collections.abc import Iterator
from dataclasses import replace

from sae_lightning.figures.chart import Chart, FigureSkipped
from sae_lightning.figures.drift import cosine_charts
from sae_lightning.figures.sparsity import frequency_chart
from sae_lightning.nouns import a_noun
from sae_lightning.report.section import Group, Section
from sae_lightning.runs import Run

_COSINE_BIN = 0.05
"""Width of the bins of a cosine: finer ones would be a large part of the page."""


def distributions(run: Run) -> Iterator[Section]:
    """Show them for each part of the activations."""
    frequencies = [chart for part in run.parts if (chart := frequency_chart(run, part)) is not None]
    charts = [*frequencies, *(chart for part in run.parts for chart in _drift(run, part))]
    lead = (
        f"Shares of the latents of {a_noun()}. A direction that stayed where it started has a cosine of 1, as all of "
        "a frozen decoder have."
    )
    if charts:
        yield Section("distributions", "Firing frequency and drift", lead, [Group(charts=charts)])


def _drift(run: Run, part: str) -> list[Chart]:
    """Draw cosines to the start, of the exported SAEs; none where the run has trained and exported none."""
    try:
        charts = cosine_charts(run, part, _COSINE_BIN)
    except FigureSkipped:
        return []
    suffix = f" ({part})" if part else ""
    note = "All seeds; the axis of shares is logarithmic."
    return [
        replace(chart, title=f"How far {chart.title.lower()} directions moved{suffix}", note=note) for chart in charts
    ]
