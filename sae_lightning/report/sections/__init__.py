"""The sections of a run on the page, each only where the run has its data.

A section is a file here, and a line in `sections_of`.
"""

from collections.abc import Sequence

from sae_lightning.report.section import Section
from sae_lightning.report.sections.density import density
from sae_lightning.report.sections.distributions import distributions
from sae_lightning.report.sections.evaluations import evaluations
from sae_lightning.report.sections.latent_images import latent_images
from sae_lightning.report.sections.nulls import nulls
from sae_lightning.report.sections.numbers import numbers
from sae_lightning.report.sections.recovery import recovery
from sae_lightning.report.sections.sparsity import sparsity
from sae_lightning.report.sections.stability import stability
from sae_lightning.report.sections.stitching import stitching
from sae_lightning.report.sections.training import training
from sae_lightning.runs import Run
from sae_lightning.verdict import Comparison


def sections_of(run: Run, comparisons: Sequence[Comparison]) -> list[Section]:
    """Return the sections of a run, in the order of the page."""
    return [
        *training(run),
        *sparsity(run),
        *distributions(run),
        *recovery(run),
        *evaluations(run, comparisons),
        *stability(run),
        *latent_images(run),
        *nulls(run),
        *stitching(run),
        *density(run),
        *numbers(run),
    ]
