"""`Stream`: endless batches with a position, and `Loader`: an epoch of them.

Batches are made in this process, where the model is, so the loaders are plain iterables with a length. The length
matters: Lightning fetches one batch ahead from a loader without one, and a checkpoint would then be one batch late.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

from jaxtyping import Float
from torch import Tensor


class Stream(ABC):
    """Endless batches [batch_size, d_in] float32 of one rank; its state is exact after each batch.

    Attributes:
        n_valid: activations that were read so far, massive ones included, where they are counted.
        n_massive: those of them that were left out because they are massive.
    """

    n_valid: int = 0
    n_massive: int = 0

    def __iter__(self) -> "Stream":
        return self

    @abstractmethod
    def __next__(self) -> Float[Tensor, "batch d_in"]:
        """Return the next batch."""

    def prepare(self) -> None:  # noqa: B027
        """Prepare the next batch, and raise now what it would raise; neither batches nor state change."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides the batches to come: plain Python values and tensors."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a saved state."""


class Loader:
    """One epoch: a fixed number of batches of an iterator.

    Args:
        batches: called at the start of an epoch; returns the iterator that batches are taken from.
        n_batches: batches in an epoch.
    """

    def __init__(self, batches: Callable[[], Iterator[Tensor]], n_batches: int) -> None:
        self.batches, self.n_batches = batches, n_batches

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[Tensor]:
        iterator = self.batches()
        for i in range(self.n_batches):
            if (batch := next(iterator, None)) is None:
                raise ValueError(
                    f"the data ended after {i} of {self.n_batches} batches: more activations are massive and left out "
                    "than the beginning of the training data let expect; lower val_samples, or give more held-out data"
                )
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the datamodule keeps the position, and Lightning resumes mid-epoch only with this method."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load nothing."""
