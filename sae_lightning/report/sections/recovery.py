"""Which true features were found, by how often they fire."""

from collections.abc import Iterator

from sae_lightning.figures.chart import FigureSkipped
from sae_lightning.figures.recovery import RECOVERY, by_frequency_charts
from sae_lightning.figures.truth import read_truth
from sae_lightning.members import Tag
from sae_lightning.report.section import Group, Section
from sae_lightning.runs import Run


def recovery(run: Run) -> Iterator[Section]:
    """Show them where they are known and fire in different frequency."""
    if Tag(RECOVERY) not in run.measurements.values:
        return
    try:
        charts = by_frequency_charts(read_truth(run), run.last.samples)
    except FigureSkipped:
        return
    lead = (
        "True features in bins of their firing probability; bars: 95 % intervals (Wilson) over the features of a bin."
    )
    yield Section("recovery", "Recovery by frequency", lead, [Group(charts=charts)])
