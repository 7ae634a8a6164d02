"""Pictures of one latent at percentiles of its activation: how the strongest differ from the usual.

A latent may show one thing where it is strongest and anything below that, so both belong on a page (Korznikov et al.
2026, arXiv 2602.14111, appendix G).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

PERCENTILES = (100, 75, 50, 25)


@dataclass(frozen=True)
class PictureExample:
    """A picture on which a latent fires.

    Args:
        picture: its number.
        name: what it is called.
        percentile: of the latent's activations over the pictures on which it fires.
        activation: the largest at any position that counts.
        heat: [rows, columns] activation at each patch; None where patches do not count.
    """

    picture: int
    name: str
    percentile: int
    activation: float
    heat: Tensor | None


@dataclass(frozen=True)
class PicturedLatent:
    """What is shown of one latent.

    Args:
        member: `<policy>/<seed>`, with a part before it where there are several.
        latent: its number.
        frequency: share of activations on which it fires.
        share: share of the pictures on which it fires.
        examples: the strongest first; none where it fires on no picture.
    """

    member: str
    latent: int
    frequency: float
    share: float
    examples: Sequence[PictureExample]

    def at(self, percentile: int) -> list[PictureExample]:
        """The examples of one percentile."""
        return [example for example in self.examples if example.percentile == percentile]

    def line(self) -> dict[str, Any]:
        """The latent as JSON."""
        examples = [
            {
                "picture": of.picture,
                "name": of.name,
                "percentile": of.percentile,
                "activation": round(of.activation, 5),
                "heat": None if of.heat is None else [[round(value, 4) for value in row] for row in of.heat.tolist()],
                "file": thumbnail_path(of.picture),
            }
            for of in self.examples
        ]
        return {"member": self.member, "latent": self.latent, "frequency": self.frequency, "examples": examples}


def thumbnail_path(number: int) -> str:
    """Where the thumbnail of a picture lies in the folder of pictures."""
    return f"thumbnails/{number}.png"


def at_percentiles(peaks: Float[Tensor, " n_pictures"], n_each: int) -> list[tuple[int, int]]:
    """Percentile and place of the pictures to show, the strongest first; none twice.

    Args:
        peaks: what the latent does on each picture; where it is 0 the latent does not fire.
        n_each: pictures of each percentile, those nearest to it; fewer where there are fewer.
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
    """The patches of a picture, which are the last of its positions."""
    rows, columns = grid
    return activations[len(activations) - rows * columns :].view(rows, columns)


def is_patch_strongest(example: PictureExample) -> bool:
    """Whether the largest activation is at a patch, and not at the class token."""
    # Another batch, in which the map was made, may round otherwise.
    return example.heat is not None and float(example.heat.max()) > (1 - 1e-3) * example.activation
