"""Rows as data: a fixed number of activations that are there, in a shuffled order that is computed and not stored."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from typing_extensions import override

from sae_lightning.datamodules.cache.permutation import Permutation
from sae_lightning.datamodules.stream import Stream
from sae_lightning.sources import ActivationSource


class RowSource(ActivationSource):
    """Activations without a model: `capture` returns its inputs.

    Args:
        kind: class of the data, by which an SAE says what it is of.
        d_in: width of a row.
        described: what the rows are, plain values by name.
    """

    def __init__(self, kind: str, d_in: int, **described: Any) -> None:
        self.kind, self.d_in, self.described = kind, d_in, described

    @override
    def describe(self, part: str = "") -> dict[str, Any]:
        return {"class": self.kind, **self.described}

    @override
    def capture(self, inputs: Float[Tensor, "n d_in"]) -> tuple[Float[Tensor, "n d_in"], Bool[Tensor, " n"]]:
        return inputs, torch.ones(len(inputs), dtype=torch.bool)

    @override
    def replace(self, inputs: Float[Tensor, "n d_in"], edit: Any) -> Float[Tensor, "n d_in"]:
        return edit(inputs)


class RowStream(Stream):
    """Batches of rows in `endless_order`; of each `world_size` batches this rank takes one.

    Args:
        read: returns the rows of these numbers.
        n_rows: number of rows.
        batch_size: rows in a batch.
        seed: decides the order.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        read: Callable[[Int64[Tensor, " batch"]], Float[Tensor, "batch d"]],
        n_rows: int,
        batch_size: int,
        seed: int,
        rank: int,
        world_size: int,
    ) -> None:
        self.read, self.n_rows, self.batch_size, self.seed = read, n_rows, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.done = 0

    @override
    def __next__(self) -> Float[Tensor, "batch d"]:
        begin = (self.done * self.world_size + self.rank) * self.batch_size
        batch = self.read(endless_order(self.n_rows, self.seed, begin, begin + self.batch_size))
        self.done += 1
        return batch

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.done}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done = state["batches"]


def endless_order(n: int, seed: int, begin: int, end: int) -> Int64[Tensor, " positions"]:
    """Return the numbers of the rows at positions begin to end - 1 of endless passes over n rows.

    Each pass is a permutation that the seed and the number of the pass decide.
    """
    positions = np.arange(begin, end)
    passes = range(begin // n, (end - 1) // n + 1)
    places = [Permutation(n, seed, number)(positions[positions // n == number] % n) for number in passes]
    return torch.from_numpy(np.concatenate(places))
