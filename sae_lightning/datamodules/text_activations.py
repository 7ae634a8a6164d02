"""Activations of a model that reads text: rows of tokens, masked, made while training."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Int64
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from typing_extensions import override

from sae_lightning.datamodules.model_activations import ModelActivations
from sae_lightning.datamodules.packing import CHUNKS_AHEAD, PackedRows, RowMaker
from sae_lightning.datamodules.text import Text
from sae_lightning.datamodules.token_stream import TokenStream
from sae_lightning.sources import TokenBatch


class TextActivations(ModelActivations):
    """Activations of a model that reads rows of tokens.

    Args:
        text: what the model reads.
        packing: how the text becomes rows.
        **arguments: of `ModelActivations`.
    """

    packing: RowMaker
    unit = "tokens"
    data_name = "text"

    def __init__(self, text: Text, packing: RowMaker, **arguments: Any) -> None:
        super().__init__(positions=packing.context_length, **arguments)
        self.text, self.packing = text, packing

    @override
    def describe(self) -> dict[str, Any]:
        return super().describe() | self.packing.describe()

    @override
    def train_stream(self) -> TokenStream:
        """Return this rank's training stream, from the beginning of the text."""
        rows = PackedRows(self.packing, self.text.train, on_restart=self._report_restart, ahead=CHUNKS_AHEAD)
        return TokenStream(self.source, rows, self._buffer(), self.batch_size, self.rows_at_once, *self.share)

    @override
    def inputs(self, rows: Int64[Tensor, "n seq"]) -> TokenBatch:
        return TokenBatch(rows, self.packing.mask(rows))

    @override
    def n_valid(self, rows: Int64[Tensor, "n seq"]) -> Int64[Tensor, " n"]:
        return self.packing.mask(rows).sum(1)

    @override
    def train_blocks(self) -> Iterator[Int64[Tensor, "n seq"]]:
        rows = PackedRows(self.packing, self.text.train)
        while True:
            yield rows.take(self.rows_at_once)

    @override
    def one_pass(self, split: str) -> Iterator[Int64[Tensor, "n seq"]]:
        rows = PackedRows(self.packing, self._documents(split), ahead=CHUNKS_AHEAD)
        ended = False
        while not ended:
            taken: list[Tensor] = []
            while len(taken) < self.rows_at_once:
                row = rows.take(1)
                if ended := rows.passes > 0:
                    break
                taken.append(row)
            if taken:
                yield torch.cat(taken)

    @override
    def first_rows(self, split: str, n_samples: int) -> Int64[Tensor, "n seq"]:
        rows = PackedRows(self.packing, self._documents(split))
        parts: list[Tensor] = []
        n_valid = 0
        while n_valid < n_samples:
            row = rows.take(1)
            if rows.passes:
                break
            parts.append(row)
            n_valid += int(self.n_valid(row))
        return torch.cat(parts)

    @override
    def check_parts(self) -> None:
        self.text.check()

    def _documents(self, split: str) -> Callable[[int], Iterator[str]]:
        return self.text.train if split == "train" else lambda _: self.text.heldout()

    def _report_restart(self, number: int) -> None:
        if number == 2:
            rank_zero_info("The training text has ended and is read again, as often as train_samples needs.")
