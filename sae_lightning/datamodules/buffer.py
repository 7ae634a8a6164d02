"""The shuffle buffer: a fixed pool of activations that serves random rows and takes new ones into the freed slots.

Neighbouring tokens are alike, so a batch has to mix many contexts. Rows are drawn without replacement from all
in the pool. The order is an index: a row is written once, where a slot is free, and read once, when it is served.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class ShuffleBuffer:
    """A pool of `capacity` rows.

    Args:
        capacity: rows that fit, and never more are held.
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
        """Puts rows into free slots and shuffles all that are held; at most `free` rows."""
        if len(rows) > self.free:
            raise ValueError(f"{len(rows)} rows do not fit into {self.free} free slots of {self.capacity}")
        free = self._slots[self.filled : self.filled + len(rows)]
        self.storage.index_copy_(0, free.to(self.storage.device), rows.to(self.storage))
        self.filled += len(rows)
        self._slots[: self.filled] = self._slots[torch.randperm(self.filled, generator=self.generator)]

    def take(self, n: int) -> Float[Tensor, "n d_in"]:
        """Removes n random rows; at most `filled`."""
        if n > self.filled:
            raise ValueError(f"{n} rows were asked for and {self.filled} are held")
        served = self._slots[self.filled - n : self.filled]
        self.filled -= n
        # index_select is several times faster than [] on a CPU
        return self.storage.index_select(0, served.to(self.storage.device)).float()

    def state_dict(self) -> dict[str, Any]:
        """The pool itself, on a CPU not a copy of it: to be written before it is used again."""
        return {
            "storage": self.storage.cpu(),
            "slots": self._slots,
            "filled": self.filled,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with these rows."""
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
