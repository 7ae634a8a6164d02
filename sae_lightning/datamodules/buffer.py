"""The shuffle buffer: a fixed pool of activations that serves random rows and takes new ones into the freed slots.

Neighbouring tokens are alike, so a batch has to mix many contexts. Rows are drawn without replacement from all
in the pool. The order is an index: a row is written once, where a slot is free, and read once, when it is served.
"""

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from sae_lightning.datamodules.stream import Stream
from sae_lightning.moving_line import LINE


class ShuffleBuffer:
    """A pool of `capacity` rows.

    Args:
        capacity: the most rows that are held at a time.
        d_in: width of a row.
        dtype: number format of the stored rows; they are served as float32.
        seed: decides the order.
        device: where the pool is.
    """

    def __init__(
        self, capacity: int, d_in: int, dtype: torch.dtype = torch.float32, seed: int = 0, device: Any = "cpu"
    ) -> None:
        self.capacity, self.filled = capacity, 0
        self.storage = torch.zeros(capacity, d_in, dtype=dtype, device=device)
        self.generator = torch.Generator().manual_seed(seed)
        self._slots = torch.arange(capacity)  # the first `filled` hold rows, to be served from the last to the first

    @property
    def free(self) -> int:
        """Number of rows that can be added."""
        return self.capacity - self.filled

    def add(self, rows: Float[Tensor, "n d_in"]) -> None:
        """Put rows into free slots and shuffle all that are held.

        Raises:
            ValueError: if there are more rows than free slots, or a number is too large for the stored format.
        """
        if len(rows) > self.free:
            raise ValueError(f"{len(rows)} rows do not fit into {self.free} free slots of {self.capacity}")
        if self.storage.dtype == torch.float16 != rows.dtype and len(rows):
            largest = rows.abs().max().item()
            if not largest <= torch.finfo(torch.float16).max:
                raise ValueError(
                    f"buffer_dtype=float16: an activation of {largest:.6g} does not fit, the largest number is 65504; "
                    "take bfloat16 or float32"
                )
        free = self._slots[self.filled : self.filled + len(rows)]
        self.storage.index_copy_(0, free.to(self.storage.device), rows.to(self.storage))
        self.filled += len(rows)
        self._slots[: self.filled] = self._slots[torch.randperm(self.filled, generator=self.generator)]

    def take(self, n: int) -> Float[Tensor, "n d_in"]:
        """Remove and return n random rows, float32.

        Raises:
            ValueError: if fewer are held.
        """
        if n > self.filled:
            raise ValueError(f"{n} rows were asked for and {self.filled} are held")
        served = self._slots[self.filled - n : self.filled]
        self.filled -= n
        # index_select is several times faster than [] on a CPU
        return self.storage.index_select(0, served.to(self.storage.device)).float()

    def state_dict(self) -> dict[str, Any]:
        """Return the pool, which on a CPU is not copied: write it before the buffer is used again."""
        return {
            "storage": self.storage.cpu(),
            "slots": self._slots,
            "filled": self.filled,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a saved state.

        Raises:
            ValueError: if the saved pool has another shape.
        """
        storage = state["storage"]
        if storage.shape != self.storage.shape:
            raise ValueError(
                f"the checkpoint's buffer has room for {len(storage)} activations of width {storage.shape[1]}, this "
                f"run's for buffer_samples={self.capacity} of width {self.storage.shape[1]}: "
                "resume with the run's own config"
            )
        self.storage.copy_(storage)
        self._slots, self.filled = state["slots"].clone(), state["filled"]
        self.generator.set_state(state["generator"])


class BufferedStream(Stream):
    """Activations that arrive in blocks and leave, shuffled, in batches.

    The buffer holds at least 1.5 batches, and a tenth of its capacity, before a batch is drawn: training starts then,
    and the buffer grows by a batch a step until it is full.

    Args:
        buffer: the pool that activations are drawn from, with room for two blocks or more.
        batch_size: activations in a batch.
        block_tokens: activations in a block, at most.
    """

    def __init__(self, buffer: ShuffleBuffer, batch_size: int, block_tokens: int) -> None:
        self.buffer, self.batch_size, self.block_tokens = buffer, batch_size, block_tokens
        self.served = 0
        self.n_valid = self.n_massive = 0

    @abstractmethod
    def next_block(self) -> Float[Tensor, "n d_in"]:
        """Return the next activations; a call that raises does not move the stream."""

    def count(self, n_valid: int, n_kept: int) -> None:
        """Count the valid activations of a block, and those that are left out of it because they are massive.

        Args:
            n_valid: by the inputs alone.
            n_kept: activations in the block.
        """
        self.n_valid += n_valid
        self.n_massive += n_valid - n_kept

    @override
    def __next__(self) -> Float[Tensor, "batch d_in"]:
        self.prepare()
        self.served += 1
        return self.buffer.take(self.batch_size)

    @override
    def prepare(self) -> None:
        """Fill the buffer for the next batch."""
        buffer = self.buffer
        at_first = max(3 * self.batch_size // 2, buffer.capacity // 10)
        enough = at_first + self.served * self.batch_size
        while buffer.filled < self.batch_size or (buffer.free >= self.block_tokens and buffer.filled < enough):
            if not self.served:
                LINE.show("filling the buffer", buffer.filled, min(enough, buffer.capacity))
            buffer.add(self.next_block())

    @override
    def state_dict(self) -> dict[str, Any]:
        counts = {"n_valid": self.n_valid, "n_massive": self.n_massive}
        return {"served": self.served, **counts, "buffer": self.buffer.state_dict()}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.served = state["served"]
        self.n_valid, self.n_massive = state.get("n_valid", 0), state.get("n_massive", 0)  # not in older checkpoints
        self.buffer.load_state_dict(state["buffer"])
