"""`ImageReader`: images -> pixels of a model; an image that cannot be decoded is skipped, counted and reported."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int64
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from sae_lightning.images.base import Images

if TYPE_CHECKING:
    from PIL.Image import Image

_MAX_NAMED = 10  # skipped images that a warning names


class ImageReader:
    """Reads images as a model wants them.

    Args:
        images: what to read from.
        preprocess: an image in RGB -> pixels [3, height, width] float32.
        n_workers: threads that decode.

    Attributes:
        skipped: the reason by number for each image that could not be decoded.
    """

    def __init__(self, images: Images, preprocess: Callable[[Any], Tensor], n_workers: int) -> None:
        self.images, self.preprocess, self.n_workers = images, preprocess, n_workers
        self.skipped: dict[int, str] = {}
        self._has_decoded = False

    def read(self, numbers: Int64[Tensor, " n"]) -> tuple[Float[Tensor, "k 3 height width"], Int64[Tensor, " k"]]:
        """Return the pixels of the images that can be decoded, and their numbers; without any, pixels [0, 3, 1, 1].

        Raises:
            ValueError: if an image is asked for again, and so far none could be decoded.
        """
        if self.skipped and not self._has_decoded and all(number in self.skipped for number in numbers.tolist()):
            first, reason = next(iter(self.skipped.items()))
            raise ValueError(
                f"none of {len(self.skipped)} images can be decoded, such as {self.images.name(first)}: {reason}"
            )
        with ThreadPoolExecutor(self.n_workers) as threads:
            decoded = list(threads.map(self._decode, numbers.tolist()))
        self._has_decoded |= any(pixels is not None for pixels in decoded)
        kept = [i for i, pixels in enumerate(decoded) if pixels is not None]
        if not kept:
            return torch.zeros(0, 3, 1, 1), numbers[:0]
        return torch.stack([pixels for pixels in decoded if pixels is not None]), numbers[kept]

    def _decode(self, number: int) -> Tensor | None:
        if number in self.skipped:
            return None
        try:
            return self.preprocess(to_rgb(self.images.image(number)))
        except Exception as error:  # PIL and its readers raise almost anything for damaged files
            self.skipped[number] = str(error) or type(error).__name__
            if len(self.skipped) <= _MAX_NAMED:
                rank_zero_warn(
                    f"skipped an image that cannot be decoded, {self.images.name(number)}: {self.skipped[number]} "
                    f"({len(self.skipped)} so far; after {_MAX_NAMED} they are counted and not named)"
                )
            return None


def to_rgb(image: "Image") -> "Image":
    """Convert to three colours of eight bits: transparent pixels become white, sixteen bits of grey become eight."""
    from PIL import Image

    if image.mode.startswith("I"):
        image = image.point(lambda value: value / 256).convert("L")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
