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
from sae_lightning.sources import LanguageModelSource, TokenBatch


class TokenStream(Stream):
    """Shuffled activations of this rank's rows of text.

    The text is read in blocks of `llm_batch_size` rows, one model forward each; of every `world_size` blocks a rank
    takes the one with its number. So the forwards, and their results to the last bit, are those of any number of ranks.

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

    @override
    def __next__(self) -> Float[Tensor, "batch d_in"]:
        forward_tokens = self.llm_batch_size * self.rows.packing.context_length
        while self.buffer.filled < self.batch_size or self.buffer.free >= forward_tokens:
            input_ids = self.rows.take(self.llm_batch_size * self.world_size).tensor_split(self.world_size)[self.rank]
            inputs = TokenBatch(input_ids, self.rows.packing.mask(input_ids))
            self.buffer.add(counted_activations(self.source, inputs))
        return self.buffer.take(self.batch_size)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows.state_dict(), "buffer": self.buffer.state_dict()}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
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
