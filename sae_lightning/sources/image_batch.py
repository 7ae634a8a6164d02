"""`ImageBatch`: what an image tower reads."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageBatch:
    """Pictures and which positions of each count.

    Args:
        pixels: [batch, 3, height, width] float32, as the model wants them.
        mask: [batch, seq] bool.
        numbers: [batch] int64, which pictures of the `Images`.
    """

    pixels: Tensor
    mask: Tensor
    numbers: Tensor

    @property
    def rows(self) -> Tensor:
        """What tells this batch from another, [batch, 1]."""
        return self.numbers[:, None]

    def to(self, device: torch.device | str) -> "ImageBatch":
        """The same batch on another device."""
        return ImageBatch(self.pixels.to(device), self.mask.to(device), self.numbers)
