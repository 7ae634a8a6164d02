"""Batches drawn from a pool that blocks of activations flow into."""

from abc import abstractmethod
from typing import Any

from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from sae_lightning.datamodules.base import Stream
from sae_lightning.datamodules.buffer import ShuffleBuffer


class PooledStream(Stream):
    """Shuffled activations.

    A batch is drawn from a pool that holds half as many again or more, and never less than a tenth of the buffer:
    training starts then, and the pool grows by a batch a step until the buffer is full.

    Args:
        buffer: the pool that activations are drawn from, with room for two blocks or more.
        batch_size: activations in a batch.
        block_tokens: activations in a block, at most.
    """

    def __init__(self, buffer: ShuffleBuffer, batch_size: int, block_tokens: int) -> None:
        self.buffer, self.batch_size, self.block_tokens = buffer, batch_size, block_tokens
        self.served = 0

    @abstractmethod
    def next_block(self) -> Float[Tensor, "n d_in"]:
        """The next activations; where it fails, it has not moved."""

    @override
    def __next__(self) -> Float[Tensor, "batch d_in"]:
        self.prepare()
        self.served += 1
        return self.buffer.take(self.batch_size)

    @override
    def prepare(self) -> None:
        """Fills the pool for the next batch."""
        buffer = self.buffer
        at_first = max(3 * self.batch_size // 2, buffer.capacity // 10)
        enough = at_first + self.served * self.batch_size
        while buffer.filled < self.batch_size or (buffer.free >= self.block_tokens and buffer.filled < enough):
            buffer.add(self.next_block())

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"served": self.served, "buffer": self.buffer.state_dict()}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.served = state["served"]
        self.buffer.load_state_dict(state["buffer"])
