"""`TokenBatch`: what a language model reads."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenBatch:
    """Rows of tokens and which positions count.

    Args:
        input_ids: [batch, seq] int64.
        mask: [batch, seq] bool, False on special tokens and padding.
    """

    input_ids: Tensor
    mask: Tensor

    def to(self, device: torch.device | str) -> "TokenBatch":
        """The same batch on another device."""
        return TokenBatch(self.input_ids.to(device), self.mask.to(device))
