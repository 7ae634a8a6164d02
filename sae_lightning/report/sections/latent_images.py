"""The pages of images that ``LatentImages`` left in the folder of a run."""

from collections.abc import Iterator
from pathlib import Path

from sae_lightning.evaluators.latent_images import FOLDER
from sae_lightning.nouns import noun
from sae_lightning.report.held_out_images import data_uri
from sae_lightning.report.section import Group, Image, Section
from sae_lightning.runs import Run

_MAX_BYTES = 4_000_000
"""Of a file, since all of them become part of the page."""
_WIDTH, _QUALITY = 1400, 80
"""Pixels that the page shows of one at most, and how well: text in it is still sharp."""


def latent_images(run: Run) -> Iterator[Section]:
    """Show the page that compares SAEs, for each part of the activations."""
    folder = run.file(FOLDER)
    files = [path for path in sorted(folder.glob("**/compared.png")) if path.stat().st_size < _MAX_BYTES]
    groups = [Group(str(path.parent.relative_to(folder)).strip("."), images=[_image(path)]) for path in files]
    lead = (
        f"Latents of the first seed of each {noun()}, drawn at random: the held-out images on which they are strongest "
        "and others from their weaker activations. A few images are an impression and no measurement."
    )
    if groups:
        yield Section("pictures", "Images of latents", lead, groups)


def _image(path: Path) -> Image:
    from PIL import Image as Images

    alt_text = (
        f"A row for each {noun()}, a block for each latent: an image at percentiles 100, 75, 50, 25 of its activation."
    )
    with Images.open(path) as image:
        shown = image.convert("RGB")
    shown.thumbnail((_WIDTH, shown.height))
    return Image(data_uri(shown, _QUALITY), alt_text)
