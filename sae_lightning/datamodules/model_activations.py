"""`ModelActivations`: activations of a model at a hook, made while training; what language and CLIP models share."""

from abc import abstractmethod
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from typing_extensions import override

from sae_lightning.checks import check_whole
from sae_lightning.datamodules.base import ActivationDataModule
from sae_lightning.datamodules.buffer import ShuffleBuffer
from sae_lightning.datamodules.norms import measure_norms
from sae_lightning.datamodules.stream import Loader
from sae_lightning.datamodules.token_stream import in_batches, valid_activations
from sae_lightning.distributed import all_gather_int
from sae_lightning.moving_line import LINE
from sae_lightning.sources import ActivationSource, HookedModel, Null, NullSource
from sae_lightning.sources.massive import MassiveRule

_SPARE = 0.05
BufferDtype = Literal["float32", "bfloat16", "float16"]


class ModelActivations(ActivationDataModule):
    """Activations of a model at valid positions, shuffled in a buffer.

    What the model reads is a sequence of rows, tensors of whole numbers: tokens of a text, or the number of an image.
    `inputs` turns rows into the inputs of a forward.

    Args:
        source: the model and the hook.
        batch_size: activations in a batch of one rank.
        train_samples: activations in an epoch, all ranks together; where rows are too few they are read again.
        val_samples: held-out activations in a validation, all ranks together, or as many as there are.
        loss_samples: held-out activations for evaluators that run the whole model, all ranks together.
        buffer_samples: activations that are shuffled together, in a rank.
        buffer_dtype: number format in the buffer.
        rows_at_once: rows in a forward of the model.
        positions: positions in a row, of an image only the valid ones.
        nulls: null versions of the activations, by names of yours.
        max_norm_ratio: activations with a norm above this many times the median are left out; None keeps them.
        seed: decides the order of the activations.
    """

    source: HookedModel | NullSource
    data_name: str
    """What messages call the rows, such as text."""
    no_effect_on_rows: tuple[str, ...] = ("batch_size", "buffer_dtype", "seed")
    """Arguments that change neither the activations nor their order before the buffer shuffles them."""

    def __init__(
        self,
        source: HookedModel,
        batch_size: int,
        train_samples: int,
        val_samples: int,
        loss_samples: int,
        buffer_samples: int,
        buffer_dtype: BufferDtype,
        rows_at_once: int,
        positions: int,
        nulls: dict[str, Null] | None,
        max_norm_ratio: float | None,
        seed: int,
    ) -> None:
        super().__init__(batch_size, train_samples, val_samples, seed)
        self.massive = MassiveRule(max_norm_ratio, partial(measure_norms, self, source.with_massive(None)))
        source.massive = self.massive
        self.source = NullSource(source, nulls, partial(self._sample, source)) if nulls else source
        self.loss_samples, self.rows_at_once, self.positions = loss_samples, rows_at_once, positions
        self.buffer_samples, self.buffer_dtype = buffer_samples, getattr(torch, buffer_dtype)
        self.buffer_bytes = buffer_samples * self.d_in * self.buffer_dtype.itemsize
        self._heldout: Tensor | None = None
        self._n_val_batches: int | None = None

    # For subclasses
    # ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def inputs(self, rows: Int64[Tensor, "n row"]) -> Any:
        """Return what a forward of the model reads, with the mask of valid positions."""

    @abstractmethod
    def n_valid(self, rows: Int64[Tensor, "n row"]) -> Int64[Tensor, " n"]:
        """Count the valid positions of each row."""

    @abstractmethod
    def train_blocks(self) -> Iterator[Int64[Tensor, "n row"]]:
        """Yield without end the rows of one forward after another, from the beginning of the training data."""

    @abstractmethod
    def one_pass(self, split: str) -> Iterator[Int64[Tensor, "n row"]]:
        """Yield all rows of a part, `train` or `heldout`, once: forward after forward, as training reads them."""

    @abstractmethod
    def first_rows(self, split: str, n_samples: int) -> Int64[Tensor, "n row"]:
        """Return the first rows of a part, `train` or `heldout`, with n_samples valid positions, or all rows."""

    # Interface
    # ----------------------------------------------------------------------------------------------------

    @override
    def setup(self, stage: str) -> None:
        """Move the model to this rank's device and read the beginning of the data, so that a mistake shows now."""
        if self.trainer is not None:
            self.source.to(self.trainer.strategy.root_device)
        self._prepare_massive()
        if stage == "fit":
            self.check_parts()
            self._check_train_rows()
        self._n_batches("val_samples", self.val_samples)

    @override
    def val_stream(self) -> Iterator[Float[Tensor, "batch d_in"]]:
        """Iterate over this rank's held-out activations in their order, the same each time."""
        return in_batches(self._heldout_activations(), self.batch_size)

    @override
    def val_dataloader(self) -> Loader:
        """Return held-out activations, the same at each validation; a collective call."""
        loader = super().val_dataloader()
        return Loader(loader.batches, self._n_batches_of_kept(loader.n_batches))

    def _heldout_activations(self) -> Iterator[Float[Tensor, "n d_in"]]:
        """Yield this rank's held-out activations, forward after forward, and count them."""
        self._val_counts = (0, 0)
        for inputs in self._forwards(self._own_heldout()):
            activations = valid_activations(self.source, inputs)
            n_massive, n_valid = self._val_counts
            n = int(inputs.mask.sum())
            self._val_counts = n_massive + n - len(activations), n_valid + n
            yield activations

    @override
    def validation_inputs(self) -> Iterator[Any]:
        """Iterate over this rank's held-out inputs with about `loss_samples` valid positions, on the model's device."""
        rows = self._own_heldout()
        enough = self.n_valid(rows).cumsum(0) >= -(-self.loss_samples // self.world_size)
        for inputs in self._forwards(rows[: int((~enough).sum()) + 1]):
            yield inputs.to(self.source.device)

    def check_parts(self) -> None:
        """Look before training for what is wrong with the training part and the held-out part."""

    def heldout_rows(self, n_samples: int) -> Any:
        """Return the first held-out inputs with n_samples valid positions, or all; the same on every rank."""
        return self.inputs(self.first_rows("heldout", n_samples))

    @override
    def calibration_sample(self, n: int) -> Float[Tensor, "n d_in"]:
        """Return n shuffled activations from the beginning of the data, the same on every rank."""
        return self._sample(self.source, n)

    def _sample(self, source: ActivationSource, n: int) -> Float[Tensor, "n d_in"]:
        blocks = self.train_blocks()
        parts: list[Tensor] = []
        while (n_read := sum(map(len, parts))) < n:
            LINE.show("reading activations", n_read, n)
            parts.append(valid_activations(source, self.inputs(next(blocks))))
        activations = torch.cat(parts)
        shuffled = torch.randperm(len(activations), generator=torch.Generator().manual_seed(self.seed))[:n]
        return activations[shuffled.to(activations.device)].float()

    @property
    @override
    def exchange_dtype(self) -> torch.dtype:
        return self.buffer_dtype

    def _buffer(self) -> ShuffleBuffer:
        """Make an empty buffer, with a seed of its own for each reader."""
        seed = self.seed * 1_000_003 + self.share[0]
        return ShuffleBuffer(self.buffer_samples, self.d_in, self.buffer_dtype, seed, self.source.device)

    @override
    def _n_batches(self, name: str, samples: int) -> int:
        """Return the number of batches; of held-out ones no more than the rank with the fewest activations has."""
        n_batches = super()._n_batches(name, samples)
        if name == "train_samples":
            return n_batches
        counts, least = self._heldout_counts()
        if least < self.batch_size:
            raise ValueError(
                f"the held-out {self.data_name}: {int(counts.sum())} valid {self.unit}, fewer than one batch for each "
                f"process (batch_size={self.batch_size}): give more held-out {self.data_name} or a smaller "
                "batch_size"
            )
        return min(n_batches, least // self.batch_size)

    def _heldout_counts(self) -> tuple[Int64[Tensor, " n"], int]:
        """Return the valid positions of each held-out row, massive ones included, and those of the poorest rank."""
        counts = self.n_valid(self._heldout_rows())
        return counts, min(int(counts[rank :: self.world_size].sum()) for rank in range(self.world_size))

    def _n_batches_of_kept(self, n_batches: int) -> int:
        """Return how many of these held-out batches there are without massive activations, the same on every rank.

        Where there is much more text than they need, all. Otherwise the activations are read once to count them: inputs
        do not tell which are massive.
        """
        if not self._leaves_out or (1 - self._spare) * self._heldout_counts()[1] >= n_batches * self.batch_size:
            return n_batches
        if self._n_val_batches is None:
            n = sum(map(len, self._heldout_activations()))
            self._n_val_batches = min(all_gather_int(n)) // self.batch_size
        return min(n_batches, self._n_val_batches)

    @property
    def _leaves_out(self) -> bool:
        return self.massive is not None and self.massive.leaves_out

    @property
    def _spare(self) -> float:
        """Share of held-out activations beyond which none should be massive: several times that of the sample."""
        assert self.massive is not None
        return min(0.5, max(_SPARE, 4 * self.massive.share))

    def _heldout_rows(self) -> Tensor:
        """Return held-out rows of all ranks with `val_samples` or `loss_samples` valid positions; made once."""
        if self._heldout is None:
            wanted = max(self.val_samples, self.loss_samples) + self.world_size * self.positions
            if self._leaves_out:
                wanted = round(wanted / (1 - self._spare)) + 1
            self._heldout = self.first_rows("heldout", wanted)
        return self._heldout

    def _own_heldout(self) -> Tensor:
        return self._heldout_rows()[self.rank :: self.world_size]

    def _forwards(self, rows: Tensor) -> Iterator[Any]:
        for part in rows.split(self.rows_at_once):
            yield self.inputs(part)

    def _check_train_rows(self) -> None:
        wanted = self.batch_size * self.n_readers
        if (n := int(self.n_valid(self.first_rows("train", wanted)).sum())) < wanted:
            raise ValueError(
                f"the training {self.data_name}: {n} valid {self.unit}, fewer than one batch for each process "
                f"(batch_size={self.batch_size}, {self.n_readers} processes): give more {self.data_name} or a smaller "
                "batch_size"
            )


def check_sizes(
    loss_samples: int, rows_per_forward: tuple[str, int], positions: int, batch_size: int, buffer: int
) -> None:
    """Refuse sizes that cannot work.

    Args:
        loss_samples: of `ModelActivations`.
        rows_per_forward: name and value of the argument that is the number of rows in a forward of the model.
        positions: of `ModelActivations`.
        batch_size: of `ModelActivations`.
        buffer: buffer_samples of `ModelActivations`.

    Raises:
        ValueError: if a size is below 1, or the buffer has no room for a batch and two forwards.
    """
    name, n = rows_per_forward
    sizes: dict[str, Any] = {"loss_samples": loss_samples, "buffer_samples": buffer, name: n}
    check_whole(1, **sizes)
    least = max(batch_size + n * positions, 2 * n * positions)
    if buffer < least:
        raise ValueError(
            f"buffer_samples={buffer}: expected at least {least}, room for a batch and for two forwards of "
            f"{name} * {positions} positions = {n * positions} activations"
        )
