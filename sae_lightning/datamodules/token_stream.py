"""Text -> model -> buffer -> batches: the streams of activations of a language model."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from sae_lightning.datamodules.base import Stream
from sae_lightning.datamodules.buffer import ShuffleBuffer
from sae_lightning.datamodules.packing import PackedRows
from sae_lightning.sources import LanguageModelSource, NonFiniteError, TokenBatch

_FIRST_BATCH_FROM = 8


class TokenStream(Stream):
    """Shuffled activations of this rank's rows of text.

    The text is read in blocks of `llm_batch_size` rows, one model forward each; of every `world_size` blocks a rank
    takes the one with its number. So the forwards, and their results to the last bit, are those of any number of ranks.

    A batch is drawn from a pool that holds twice as many activations or more, and never less than an eighth of the
    buffer: training starts then, and the buffer grows by a batch a step until it is full.

    Args:
        source: the model and the hook.
        rows: packed text.
        buffer: the pool that activations are drawn from, with room for two model batches or more.
        batch_size: activations in a batch.
        llm_batch_size: rows of text in a forward of the model.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        source: LanguageModelSource,
        rows: PackedRows,
        buffer: ShuffleBuffer,
        batch_size: int,
        llm_batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.source, self.rows, self.buffer = source, rows, buffer
        self.batch_size, self.llm_batch_size, self.rank, self.world_size = batch_size, llm_batch_size, rank, world_size
        self.served = 0

    @override
    def __next__(self) -> Float[Tensor, "batch d_in"]:
        self.prepare()
        self.served += 1
        return self.buffer.take(self.batch_size)

    @override
    def prepare(self) -> None:
        """Fills the buffer, at the beginning only so far that it grows by a batch with each that is served."""
        buffer, forward_tokens = self.buffer, self.llm_batch_size * self.rows.packing.context_length
        at_first = max(2 * self.batch_size, buffer.capacity // _FIRST_BATCH_FROM)
        enough = at_first + self.served * self.batch_size
        while buffer.filled < self.batch_size or (buffer.free >= forward_tokens and buffer.filled < enough):
            n_rows = self.llm_batch_size * self.world_size
            input_ids = self.rows.peek(n_rows).tensor_split(self.world_size)[self.rank]
            inputs = TokenBatch(input_ids, self.rows.packing.mask(input_ids))
            try:
                with torch.inference_mode():
                    activations = counted_activations(self.source, inputs)
            except NonFiniteError as error:
                raise ValueError(f"{error}. {self._where(input_ids, *error.position)}") from error
            buffer.add(activations)
            self.rows.take(n_rows)  # only now: where the model fails, the state is still good

    def _where(self, input_ids: Tensor, row: int, position: int) -> str:
        text = self.rows.packing.tokenizer.decode(input_ids[row, max(0, position - 20) : position + 1])
        number = self.rows.next_row + self.rank * self.llm_batch_size + row
        return f"The first: row {number} of packed text, token {position}, at the end of {text!r}"

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"served": self.served, "rows": self.rows.state_dict(), "buffer": self.buffer.state_dict()}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.served = state["served"]
        self.rows.load_state_dict(state["rows"])
        self.buffer.load_state_dict(state["buffer"])


def counted_activations(source: LanguageModelSource, inputs: TokenBatch) -> Float[Tensor, "n d_in"]:
    """Activations at the positions that count, in the model's dtype."""
    activations, mask = source.capture(inputs)
    return activations[mask]


def in_batches(parts: Iterator[Tensor], batch_size: int) -> Iterator[Float[Tensor, "batch d_in"]]:
    """Rows of tensors one after the other, in full batches, float32."""
    held = next(parts)
    while True:
        while len(held) < batch_size:
            if (part := next(parts, None)) is None:
                return
            held = torch.cat([held, part])
        yield held[:batch_size].float()
        held = held[batch_size:]
