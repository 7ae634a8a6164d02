"""`TokenBatch`: what a language model reads."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sae_lightning.sources.base import ActivationSource


@dataclass(frozen=True)
class TokenBatch:
    """Rows of tokens and their valid positions.

    Args:
        input_ids: [batch, seq] int64.
        mask: [batch, seq] bool, True on valid positions, False on special tokens and padding.
        positions: [n] int64, ascending, the positions whose outputs are read, the same in each row: the logits of
            the others are a large part of the work of a small model. Default: all.
    """

    input_ids: Tensor
    mask: Tensor
    positions: Tensor | None = None

    @property
    def rows(self) -> Tensor:
        """What identifies each row of the batch, [batch, seq] int64: nulls derive their noise from it."""
        return self.input_ids

    def split(self, n_rows: int) -> "list[TokenBatch]":
        """Return the rows in batches of so many."""
        parts = zip(self.input_ids.split(n_rows), self.mask.split(n_rows), strict=True)
        return [replace(self, input_ids=input_ids, mask=mask) for input_ids, mask in parts]

    def to(self, device: torch.device | str) -> "TokenBatch":
        """Return the same batch on another device."""
        positions = None if self.positions is None else self.positions.to(device)
        return TokenBatch(self.input_ids.to(device), self.mask.to(device), positions)


def check_next_token(source: ActivationSource, asker: str) -> None:
    """Refuse a question about the next token where the model does not predict it, before anything is trained.

    Args:
        source: whose model would be asked.
        asker: an evaluator or command, as the user names it.

    Raises:
        ValueError: if the outputs are no logits of the next token.
    """
    if reason := source.no_next_token:
        raise ValueError(
            f"{asker} asks for the next token, and the model predicts none: {reason}. Take a causal language model "
            f"with its head, or leave out {asker}"
        )
