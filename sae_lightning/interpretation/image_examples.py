"""Images of one latent at percentiles of its activation: how the strongest differ from the usual.

A latent may show one thing where it is strongest and anything below that, so both belong on a page (Korznikov et al.
2026, arXiv 2602.14111, appendix G).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sae_lightning.members import Member

PERCENTILES = (100, 75, 50, 25)


@dataclass(frozen=True)
class ImageExample:
    """An image on which a latent fires.

    Args:
        image: its number.
        name: what it is called.
        percentile: of the latent's activations over the images on which it fires.
        activation: the largest at any valid position.
        heat: [rows, columns] activation at each patch; None where patches are not valid.
    """

    image: int
    name: str
    percentile: int
    activation: float
    heat: Tensor | None


@dataclass(frozen=True)
class ShownLatent:
    """What is shown of one latent.

    Args:
        member: whose latent.
        number: of the latent.
        frequency: share of activations on which it fires.
        share: share of the images on which it fires.
        examples: the strongest first; none where it fires on no image.
    """

    member: Member
    number: int
    frequency: float
    share: float
    examples: Sequence[ImageExample]

    def at(self, percentile: int) -> list[ImageExample]:
        """Return the examples of one percentile."""
        return [example for example in self.examples if example.percentile == percentile]

    def line(self) -> dict[str, Any]:
        """Return the latent as plain values: a line of the file."""
        examples = [
            {
                "picture": example.image,
                "name": example.name,
                "percentile": example.percentile,
                "activation": round(example.activation, 5),
                "heat": None if example.heat is None else _rounded(example.heat),
                "file": thumbnail_path(example.image),
            }
            for example in self.examples
        ]
        return {"member": str(self.member), "latent": self.number, "frequency": self.frequency, "examples": examples}


def _rounded(heat: Tensor) -> list[list[float]]:
    return [[round(value, 4) for value in row] for row in heat.tolist()]


def thumbnail_path(number: int) -> str:
    """Return where the thumbnail of an image lies, relative to the folder of the pages."""
    return f"thumbnails/{number}.png"


def at_percentiles(peaks: Float[Tensor, " n_images"], n_each: int) -> list[tuple[int, int]]:
    """Choose the images to show: percentile and place of each, the strongest first; none twice.

    Args:
        peaks: largest activation of the latent on each image; where it is 0 the latent does not fire.
        n_each: images of each percentile, those nearest to it; fewer where there are fewer.
    """
    order = peaks.argsort(stable=True)
    order = order[peaks[order] != 0]
    centres = {percentile: round(percentile / 100 * (len(order) - 1)) for percentile in PERCENTILES}
    free, chosen = set(range(len(order))), list[tuple[int, int]]()
    for _ in range(n_each):  # one each, then the next, so that none is without where there are few
        for percentile, centre in centres.items():
            if free:
                nearest = min(free, key=lambda rank: (abs(rank - centre), -rank))
                free.remove(nearest)
                chosen.append((percentile, nearest))
    return [(percentile, int(order[rank])) for percentile, rank in sorted(chosen, reverse=True)]


def as_grid(activations: Float[Tensor, " seq"], grid: tuple[int, int]) -> Float[Tensor, "rows columns"]:
    """Return the activations at the patches of an image, which are the last of its positions."""
    rows, columns = grid
    return activations[len(activations) - rows * columns :].view(rows, columns)


def is_patch_strongest(example: ImageExample) -> bool:
    """Return whether the largest activation is at a patch, and not at the class token."""
    # The map was made in another batch, which may round otherwise.
    return example.heat is not None and float(example.heat.max()) > (1 - 1e-3) * example.activation
