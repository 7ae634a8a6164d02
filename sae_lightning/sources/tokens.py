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

    @property
    def rows(self) -> Tensor:
        """What tells this batch from another, [batch, seq]."""
        return self.input_ids

    def to(self, device: torch.device | str) -> "TokenBatch":
        """The same batch on another device."""
        return TokenBatch(self.input_ids.to(device), self.mask.to(device))


def check_logits(logits: Tensor, input_ids: Tensor, evaluator: str) -> None:
    """Refuses outputs that cannot be logits of these tokens: hidden states of a model without a head."""
    if logits.shape[-1] <= (largest := int(input_ids.max())):
        raise ValueError(
            f"{evaluator} needs logits, and the model's outputs of width {logits.shape[-1]} have none for token "
            f"{largest}: take a checkpoint with its language-modelling head, or leave out {evaluator}"
        )
