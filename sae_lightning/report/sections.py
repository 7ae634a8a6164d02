"""Which sections a run has: each only where the run has its data."""

from sae_lightning.report.asked import details, nulls, numbers
from sae_lightning.report.commands import density, stitching
from sae_lightning.report.learned import distributions, recovery, sparsity, training
from sae_lightning.report.pictured import pictures
from sae_lightning.report.run import ReportRun
from sae_lightning.report.section import Section

_MAKERS = (
    training,
    sparsity,
    distributions,
    recovery,
    details("probing", "Probing"),
    details("causal", "Causal edits"),
    details("interpretation", "Interpretation"),
    pictures,
    details("seeds", "Agreement of seeds"),
    nulls,
    stitching,
    details("meta", "Meta-latents"),
    density,
    numbers,
)


def sections(run: ReportRun) -> list[Section]:
    """All that a run has, in the order of the page."""
    return [section for make in _MAKERS if (section := make(run)) is not None]
