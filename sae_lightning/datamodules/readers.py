"""The batch of a step from the batches of several readers, some of which are other ranks.

A reader is a stream with a share, a buffer and a place in the data of its own; a run has as many as it had processes
when it began. Resumed on another number of processes a rank takes over several of them, or leaves them to others, and
the batches of the run stay what they are. Where ranks hold different SAEs, each of them needs the batches of all: they
are exchanged in the number format of the buffer, the next while a step is running on the one before it.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from sae_lightning.datamodules.stream import Stream
from sae_lightning.distributed import Ranks, group_of, world_size

AHEAD = "ahead"
"""Key of a batch that was drawn and not yet served, in the state of a reader."""


def own_readers(rank: int, n_ranks: int, n_readers: int) -> list[int]:
    """Return the numbers of the readers of one rank.

    >>> own_readers(0, 2, 3), own_readers(1, 2, 3)
    ([0, 2], [1])
    """
    return list(range(rank, n_readers, n_ranks))


class JoinedReaders(Stream):
    """The batches of all readers with this rank's share of the activations, in order of the readers.

    Args:
        readers: of this rank by their number, in order; perhaps none.
        n_readers: of all ranks.
        size: [batch_size, d_in] of the batch of one reader.
        n_ranks: number of processes.
        dtype: number format in which batches are exchanged.
        device: where batches are exchanged.
    """

    def __init__(
        self,
        readers: Mapping[int, Stream],
        n_readers: int,
        size: tuple[int, int],
        n_ranks: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.readers, self.size, self.dtype, self.device = readers, size, dtype, device
        self.n_joined = n_readers // world_size()
        self.n_slots = -(-n_readers // n_ranks)
        self._drawn: dict[int, Tensor] = {}
        self._error: Exception | None = None
        self._exchange: tuple[Tensor, Any] | None = None

    @property
    def n_valid(self) -> int:  # type: ignore[override]
        """Activations that the readers of this rank have read."""
        return sum(reader.n_valid for reader in self.readers.values())

    @property
    def n_massive(self) -> int:  # type: ignore[override]
        """Those of them that were left out because they are massive."""
        return sum(reader.n_massive for reader in self.readers.values())

    @override
    def __next__(self) -> Float[Tensor, "batch d_in"]:
        if world_size(Ranks.OTHER_MEMBERS) == 1:
            self._draw()
            self._raise()
            drawn, self._drawn = [self._drawn[number] for number in self.readers], {}
            return drawn[0] if len(drawn) == 1 else torch.cat(drawn)
        if self._exchange is None:
            self._begin()
        self._raise()
        assert self._exchange is not None
        gathered, work = self._exchange
        work.wait()
        self._drawn = {}
        self._begin()  # while the caller trains on this batch
        # [members, slots, ...] -> in order of readers; a rank without a reader has sent a slot of nothing
        return gathered.transpose(0, 1).flatten(0, 1)[: self.n_joined].flatten(0, 1).float()

    def _begin(self) -> None:
        """Draw a batch of each reader and start to exchange them; a failure is kept until the next batch is due."""
        self._draw()
        own = torch.full((self.n_slots, *self.size), torch.nan, dtype=self.dtype, device=self.device)
        for slot, number in enumerate(self._drawn):
            own[slot].copy_(self._drawn[number], non_blocking=True)
        group = group_of(Ranks.OTHER_MEMBERS)
        gathered = own.new_empty((dist.get_world_size(group), *own.shape))
        work = dist.all_gather([_bytes(of_rank) for of_rank in gathered], _bytes(own), group=group, async_op=True)
        self._exchange = gathered, work

    def _draw(self) -> None:
        try:
            for number, reader in self.readers.items():
                if number not in self._drawn:
                    self._drawn[number] = self._ready_to_copy(next(reader))
        except Exception as error:
            self._error = error

    def _ready_to_copy(self, batch: Tensor) -> Tensor:
        """Return a batch that a GPU can fetch while it works: from other memory of the CPU it would have to wait."""
        return batch.pin_memory() if torch.device(self.device).type == "cuda" and not batch.is_cuda else batch

    def _raise(self) -> None:
        if (error := self._error) is not None:
            self._error = None
            raise error

    @override
    def prepare(self) -> None:
        self._raise()
        if world_size(Ranks.OTHER_MEMBERS) == 1:
            for reader in self.readers.values():
                reader.prepare()

    @override
    def state_dict(self) -> dict[str, Any]:
        """Return the state of each reader of this rank by its number."""
        ahead = {number: {AHEAD: batch} for number, batch in self._drawn.items()}
        return {str(number): reader.state_dict() | ahead.get(number, {}) for number, reader in self.readers.items()}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from the states of the readers of this rank."""
        for number, reader in self.readers.items():
            own = dict(state[str(number)])
            if (ahead := own.pop(AHEAD, None)) is not None:
                self._drawn[number] = ahead.clone()
            reader.load_state_dict(own)


def _bytes(tensor: Tensor) -> Tensor:
    """Return a tensor as bytes, which every backend can exchange."""
    return tensor.view(torch.uint8).flatten()
