"""The section with the pages of pictures that ``LatentImages`` left in the folder of a run."""

import base64
from pathlib import Path

from sae_lightning.evaluators.latent_images import FOLDER
from sae_lightning.report.run import ReportRun
from sae_lightning.report.section import Group, Image, Section

_MAX_BYTES = 4_000_000
"""Of a file, since all of them become part of the page."""


def pictures(run: ReportRun) -> Section | None:
    """The page that compares SAEs, for each part of the activations."""
    folder = run.folder / FOLDER
    files = [path for path in sorted(folder.glob("**/compared.png")) if path.stat().st_size < _MAX_BYTES]
    groups = [Group(str(path.parent.relative_to(folder)).strip("."), images=[_image(path)]) for path in files]
    lead = (
        "Latents of the first seed of each SAE, drawn at random: the held-out pictures on which they are strongest "
        "and others from their weaker activations. A few pictures are an impression and no measurement."
    )
    return Section("pictures", "Pictures of latents", lead, groups) if groups else None


def _image(path: Path) -> Image:
    says = "A row for each SAE, a block for each latent: a picture at percentiles 100, 75, 50 and 25 of its activation."
    return Image(f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}", says)
