"""`TokenBatch`: what a language model reads."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenBatch:
    """Rows of tokens and their valid positions.

    Args:
        input_ids: [batch, seq] int64.
        mask: [batch, seq] bool, True on valid positions, False on special tokens and padding.
    """

    input_ids: Tensor
    mask: Tensor

    @property
    def rows(self) -> Tensor:
        """What identifies each row of the batch, [batch, seq] int64: nulls derive their noise from it."""
        return self.input_ids

    def to(self, device: torch.device | str) -> "TokenBatch":
        """Return the same batch on another device."""
        return TokenBatch(self.input_ids.to(device), self.mask.to(device))


def check_logits(logits: Tensor, input_ids: Tensor, evaluator: str) -> None:
    """Refuse outputs that cannot be logits of these tokens: hidden states of a model without a head.

    Raises:
        ValueError: if the outputs are too narrow for one of the tokens.
    """
    if logits.shape[-1] <= (largest := int(input_ids.max())):
        raise ValueError(
            f"{evaluator} needs logits, and the model's outputs of width {logits.shape[-1]} have none for token "
            f"{largest}: take a checkpoint with its language-modelling head, or leave out {evaluator}"
        )
