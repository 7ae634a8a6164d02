"""`ImageBatch`: what an image tower reads."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageBatch:
    """Images and their valid positions.

    Args:
        pixels: [batch, 3, height, width] float32, preprocessed for the model.
        mask: [batch, seq] bool, True on valid positions.
        numbers: [batch] int64, the numbers of the images in their `Images`.
    """

    pixels: Tensor
    mask: Tensor
    numbers: Tensor

    @property
    def rows(self) -> Tensor:
        """What identifies each row of the batch, [batch, 1] int64: nulls derive their noise from it."""
        return self.numbers[:, None]

    def to(self, device: torch.device | str) -> "ImageBatch":
        """Return the same batch on another device."""
        return ImageBatch(self.pixels.to(device), self.mask.to(device), self.numbers)
