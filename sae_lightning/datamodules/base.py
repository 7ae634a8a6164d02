"""What a datamodule of activations is: a training stream that can stop and go on, and a validation stream of its own.

Batches are made in this process (the model lives in it), so the loaders are plain sized iterables. Sized matters:
Lightning fetches one batch ahead from a loader without a length, and a checkpoint would then be one batch late.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import torch.distributed as dist
from jaxtyping import Float
from lightning.pytorch import LightningDataModule
from torch import Tensor
from typing_extensions import override

from sae_lightning.code import Code
from sae_lightning.datamodules.packing import RowMaker
from sae_lightning.distributed import world_size
from sae_lightning.images.base import Images
from sae_lightning.members import Member
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.sources import ActivationSource, NullSource


class Stream(ABC):
    """Endless batches [batch_size, d_in] float32 of one rank; its state is exact after each batch."""

    def __iter__(self) -> "Stream":
        return self

    @abstractmethod
    def __next__(self) -> Float[Tensor, "batch d_in"]:
        """The next batch."""

    def prepare(self) -> None:  # noqa: B027
        """Does now what the next batch needs, and fails now if it will; the batches and the state stay the same."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that decides the batches to come: plain Python values and tensors."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the stream with this state was."""


class Loader:
    """A fixed number of batches of an iterator: one epoch.

    Args:
        batches: called at the start of an epoch for the iterator to take them from.
        n_batches: batches in an epoch.
    """

    def __init__(self, batches: Callable[[], Iterator[Tensor]], n_batches: int) -> None:
        self.batches, self.n_batches = batches, n_batches

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[Tensor]:
        iterator = self.batches()
        for _ in range(self.n_batches):
            yield next(iterator)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the datamodule keeps the position. Its presence tells Lightning that a run can go on mid-epoch."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load."""


class ActivationDataModule(LightningDataModule, ABC):
    """Batches [batch_size, d_in] of raw activations, float32.

    Args:
        batch_size: activations in a batch of one rank.
        train_samples: activations in an epoch, all ranks together.
        val_samples: held-out activations in a validation, all ranks together.
        seed: decides the order of the training data.

    Attributes:
        source: where the activations come from.
        unit: what one activation is, "samples" or "tokens".
        rows_at_once: rows of text, or images, in a forward of the model.
    """

    source: ActivationSource
    unit: str = "samples"
    rows_at_once: int = 1

    def __init__(self, batch_size: int, train_samples: int, val_samples: int, seed: int) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: expected at least 1")
        for name, value in (("train_samples", train_samples), ("val_samples", val_samples)):
            if value < batch_size:
                raise ValueError(f"{name}={value}: expected at least one batch, batch_size={batch_size}")
        self.batch_size, self.train_samples, self.val_samples = batch_size, train_samples, val_samples
        self.seed = seed
        self._train_stream: Stream | None = None
        self._to_load: dict[str, Any] | None = None

    # Cached, and not plain properties, so that a subclass may assign them.

    @cached_property
    def packing(self) -> RowMaker | None:
        """How texts become rows of tokens; None where the model reads no text."""
        return None

    @cached_property
    def images(self) -> Images | None:
        """What the model sees; None where it sees no images."""
        return None

    @cached_property
    def mask(self) -> Tensor | None:
        """Valid positions of an image, [seq] bool; None where the model sees no images."""
        return None

    @property
    def d_in(self) -> int:
        """Width of an activation."""
        return self.source.d_in

    @property
    def widths(self) -> dict[str, int]:
        """Widths of the parts of an activation by name, where it has parts: several hooks, or nulls, side by side."""
        return getattr(self.source, "widths", {})

    @property
    def null_parts(self) -> tuple[str, ...]:
        """Names of the parts that are null versions of the activations; these themselves have the name ""."""
        return tuple(self.source.nulls) if isinstance(self.source, NullSource) else ()

    @property
    def noise_parts(self) -> tuple[str, ...]:
        """Names of the parts that are noise to a reader of the text."""
        return self.source.noise_parts if isinstance(self.source, NullSource) else ()

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return self.trainer.global_rank if self.trainer is not None else 0

    @property
    def world_size(self) -> int:
        """Number of processes that train together."""
        return self.trainer.world_size if self.trainer is not None else 1

    @abstractmethod
    def train_stream(self) -> Stream:
        """This rank's training stream, from its beginning."""

    @abstractmethod
    def val_stream(self) -> Iterator[Float[Tensor, "batch d_in"]]:
        """This rank's held-out batches, the same each time."""

    @abstractmethod
    def calibration_sample(self, n: int) -> Float[Tensor, "n d_in"]:
        """Shuffled activations from the beginning of the training data, the same on every rank; moves no stream."""

    def validation_inputs(self) -> Iterator[Any]:
        """Iterate over this rank's held-out inputs, for evaluators that run the model; none for data without one."""
        return iter(())

    def heldout_rows(self, n_samples: int) -> Any:
        """Return the first held-out inputs with n_samples valid positions, or all; None for data without a model."""
        return None

    def val_codes(self) -> Iterator[Code] | None:
        """Iterate over the true codes of the batches of `val_stream`, in its order; None where they are unknown."""
        return None

    def held_out(self, first: int = 0, step: int = 1) -> Iterator[tuple[Float[Tensor, "batch d_in"], Code]] | None:
        """Iterate over held-out batches and their true codes; None where true codes are unknown.

        Args:
            first: number of the first batch.
            step: distance from one batch to the next, such as the number of ranks.
        """
        return None

    def use_starting_dictionaries(self, members: Mapping[Member, SparseAutoencoder]) -> None:  # noqa: B027
        """Compare the dictionaries that SAEs start from with the data, where these can contain such a start.

        Args:
            members: the SAEs of a fit, before their first step.
        """

    @override
    def train_dataloader(self) -> Loader:
        """The training stream: from its beginning, or from where the checkpoint that was loaded stopped."""
        n_batches = self._n_batches("train_samples", self.train_samples)
        stream = self.train_stream()
        if self._to_load is not None:
            stream.load_state_dict(self._own_state(self._to_load))
            self._to_load = None
        self._train_stream = stream
        return Loader(lambda: stream, n_batches)

    def prepare_batch(self) -> None:
        """Fails if there will be no next training batch on this rank, while the run can still end between two steps."""
        if self._train_stream is not None:
            self._train_stream.prepare()

    @override
    def val_dataloader(self) -> Loader:
        """Held-out activations, the same at each validation."""
        return Loader(self.val_stream, self._n_batches("val_samples", self.val_samples))

    @override
    def test_dataloader(self) -> Loader:
        """The validation's activations."""
        return self.val_dataloader()

    @override
    def state_dict(self) -> dict[str, Any]:
        """Position of every rank's training stream, and what nulls know of the data; a collective call."""
        if self._train_stream is None:
            return {}
        nulls = {"nulls": self.source.state_dict()} if isinstance(self.source, NullSource) else {}
        return {"ranks": _gather(self._train_stream.state_dict()), **nulls}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps the state for the next `train_dataloader()`; of it validation needs that of the nulls alone."""
        self._to_load = state_dict
        if isinstance(self.source, NullSource):
            self.source.load_state_dict(state_dict.get("nulls", {}))

    def _own_state(self, state: dict[str, Any]) -> dict[str, Any]:
        ranks = state["ranks"]
        if len(ranks) != self.world_size:
            raise ValueError(
                f"the checkpoint was written by {len(ranks)} processes and this run has {self.world_size}: "
                f"resume with the same number of devices and nodes"
            )
        return ranks[self.rank]

    def _n_batches(self, name: str, samples: int) -> int:
        n_batches = samples // (self.batch_size * self.world_size)
        if not n_batches:
            raise ValueError(
                f"{name}={samples}: expected at least one batch for each of {self.world_size} processes, "
                f"{self.batch_size * self.world_size}"
            )
        return n_batches


def _gather(state: dict[str, Any]) -> list[dict[str, Any]]:
    """The state of every rank, on the rank that writes checkpoints; elsewhere placeholders of the same number."""
    if world_size() == 1:
        return [state]
    states: list[Any] = [{}] * world_size()
    group = None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")  # not through a GPU's memory
    dist.gather_object(state, states if dist.get_rank() == 0 else None, group=group)
    if group is not None:
        dist.destroy_process_group(group)
    return states
