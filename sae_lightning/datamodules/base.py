"""`ActivationDataModule`: a training stream that can stop and be resumed, and a validation stream of its own."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from typing_extensions import override

from sae_lightning import distributed
from sae_lightning.checks import check_seed, check_whole
from sae_lightning.code import Code
from sae_lightning.datamodules.norms import STATE_KEY, norms_of_checkpoint
from sae_lightning.datamodules.packing import RowMaker
from sae_lightning.datamodules.readers import JoinedReaders, own_readers
from sae_lightning.datamodules.stream import Loader, Stream
from sae_lightning.distributed import Ranks, all_gather_object, gather_on_first, world_size
from sae_lightning.images import Images
from sae_lightning.members import Member
from sae_lightning.provenance import arguments_of, refuse_other_activations
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.data import columns_by_part
from sae_lightning.sources import ActivationSource, NullSource
from sae_lightning.sources.massive import MassiveRule, row_norms

_SEVERAL = 1.05
"""Passes from which on an epoch is said to read what there is more than once."""


class ActivationDataModule(LightningDataModule, ABC):
    """Batches [batch_size, d_in] of raw activations, float32.

    Attributes and methods that only some data need exist here too, with a default for all others.

    Args:
        batch_size: activations in a batch of one rank.
        train_samples: activations in an epoch, all ranks together.
        val_samples: held-out activations in a validation, all ranks together.
        seed: decides the order of the training data.

    Attributes:
        source: where the activations come from.
        unit: what one activation is: "samples", "tokens" or "positions".
        rows_at_once: rows of text, or images, in a forward of the model.
        packing: how text becomes rows of tokens; None where the model reads no text.
        images: what the model sees; None where it reads no images.
        mask: valid positions of an image, [n_positions] bool; None where the model reads no images.
        massive: which activations are massive; None where that is not asked.
        buffer_bytes: of the buffer of a reader, which a checkpoint holds too.
        checkpoint: file that the trainer will load, where that is known before; it says what is massive.
    """

    source: ActivationSource
    unit: str = "samples"
    rows_at_once: int = 1
    packing: RowMaker | None = None
    images: Images | None = None
    mask: Tensor | None = None
    massive: MassiveRule | None = None
    buffer_bytes: int = 0
    checkpoint: str | Path | None = None

    def __init__(self, batch_size: int, train_samples: int, val_samples: int, seed: int) -> None:
        super().__init__()
        check_batches(batch_size, train_samples, val_samples, seed)
        self.batch_size, self.train_samples, self.val_samples = batch_size, train_samples, val_samples
        self.seed = seed
        self._train_stream: JoinedReaders | None = None
        self._n_readers: int | None = None
        self._reader: int | None = None
        self._to_load: dict[str, Any] | None = None
        self._val_counts = (0, 0)
        self._has_described_massive = False
        self._has_said_passes = False

    def describe(self) -> dict[str, Any]:
        """Return class and arguments as JSON has them: what decides the batches, beside the activations."""
        return {"class": type(self).__name__, **arguments_of(self)}

    def describe_activations(self) -> dict[str, dict[str, Any]]:
        """Return what decides the activations of each part, by its name; a single part is called ""."""
        return {part: {"null": None} | self.source.describe(part) for part in {"": 0, **self.widths}}

    def refuse_sae_of_others(self, sae: SparseAutoencoder, name: str, part: str = "", target: str = "") -> None:
        """Refuse an SAE that was trained on other activations than these.

        Args:
            sae: that is to read them.
            name: of the SAE, for the message.
            part: that it is to read.
            target: part at which a transcoder is to answer.

        Raises:
            ValueError: names what differs.
        """
        described = self.describe_activations()
        refuse_other_activations(name, sae.provenance, described.get(part))
        if target and "target" in sae.provenance:
            own = {"activations": sae.provenance["target"]}
            refuse_other_activations(f"the target of {name}", own, described.get(target))

    @property
    def d_in(self) -> int:
        """Width of an activation."""
        return self.source.d_in

    @property
    def widths(self) -> dict[str, int]:
        """Width of each part of an activation by name where it has parts, several hooks or nulls; else empty."""
        return dict(self.source.widths)

    @property
    def null_parts(self) -> tuple[str, ...]:
        """Names of the parts that are null versions of the activations; the activations themselves are part ""."""
        return tuple(self.source.null_parts) if isinstance(self.source, NullSource) else ()

    @property
    def nulls_of_parts(self) -> dict[str, tuple[str, str]]:
        """The name of the null and the hook, "" where there is one, of each part that is a null version."""
        return dict(self.source.null_parts) if isinstance(self.source, NullSource) else {}

    @property
    def hook_widths(self) -> dict[str, int]:
        """Width of the activations at each hook by name where there are several, without nulls; else empty."""
        return dict(self.source.source.widths if isinstance(self.source, NullSource) else self.source.widths)

    @property
    def noise_parts(self) -> tuple[str, ...]:
        """Names of the parts that keep nothing of the inputs: no text or image explains what fires on them."""
        return self.source.noise_parts if isinstance(self.source, NullSource) else ()

    @property
    def rank(self) -> int:
        """Number of this process among those that share the held-out data, from 0."""
        return distributed.rank() if distributed.has_mesh() else self._process[0]

    @property
    def world_size(self) -> int:
        """Number of processes that share the held-out data: those with the same SAEs."""
        return distributed.world_size() if distributed.has_mesh() else self._process[1]

    @property
    def _process(self) -> tuple[int, int]:
        """Number of this process among those that read data of their own, and of all of these."""
        if distributed.has_mesh():
            return distributed.number_among_readers()
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    @property
    def n_readers(self) -> int:
        """Number of readers of the training data: as many as the run had processes when it began."""
        return self._n_readers or self._process[1]

    @property
    def share(self) -> tuple[int, int]:
        """Number of the reader whose stream `train_stream` returns, and of all; by default that of this process."""
        return (self._process[0] if self._reader is None else self._reader), self.n_readers

    @property
    def exchange_dtype(self) -> torch.dtype:
        """Number format in which ranks exchange batches without a loss."""
        return torch.float32

    # For subclasses
    # ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def train_stream(self) -> Stream:
        """Return the training stream of a reader (`share`), from its beginning."""

    @abstractmethod
    def val_stream(self) -> Iterator[Float[Tensor, "batch d_in"]]:
        """Iterate over this rank's held-out batches, the same each time."""

    @abstractmethod
    def calibration_sample(self, n: int) -> Float[Tensor, "n d_in"]:
        """Return n shuffled activations from the beginning of the training data, the same on every rank.

        The training stream does not move.
        """

    def validation_inputs(self) -> Iterator[Any]:
        """Iterate over this rank's held-out inputs, for evaluators that run the model; none where there is no model."""
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

    def find_non_finite(self) -> str | None:
        """Name the place of the first number that is not finite; None if there is none, or if it cannot be found."""
        return None

    def use_starting_dictionaries(self, members: Mapping[Member, SparseAutoencoder]) -> None:  # noqa: B027
        """Compare the dictionaries that SAEs start from with the data, where these can contain such a start.

        Args:
            members: the SAEs of a fit, before their first step.
        """

    def massive_in_validation(self) -> tuple[int, int]:
        """Return how many held-out activations of this rank the last validation left out, and of how many."""
        return self._val_counts

    def massive_in_training(self) -> tuple[int, int]:
        """Return how many training activations of this rank were left out so far, and of how many."""
        return (0, 0) if self._train_stream is None else (self._train_stream.n_massive, self._train_stream.n_valid)

    @override
    def train_dataloader(self) -> Loader:
        """Return the training stream, from its beginning or from the position of the loaded checkpoint."""
        n_batches = self._n_batches("train_samples", self.train_samples)
        states: list[Any] = []
        if self._to_load is not None:
            self._check_same_ratio(self._to_load.get(STATE_KEY))
            states = self._to_load["ranks"]
            self._to_load = None
        self._train_stream = stream = self._own_stream(states)
        self._describe_massive()
        return Loader(lambda: stream, n_batches)

    def _own_stream(self, states: Sequence[Any]) -> JoinedReaders:
        """Return the batches of this rank.

        Args:
            states: of all readers, to resume from; empty at the beginning of a run.
        """
        n_readers, (rank, n_ranks) = self.n_readers, self._process
        if n_readers % self.world_size:
            raise ValueError(
                f"the checkpoint was written by {n_readers} processes, each of which reads a share of the data of its "
                f"own, and {self.world_size} processes that hold the same SAEs cannot take equally many of these "
                f"shares: resume with a number that divides {n_readers}"
            )
        readers: dict[int, Stream] = {}
        for self._reader in own_readers(rank, n_ranks, n_readers):
            readers[self._reader] = self.train_stream()
        self._reader = None
        device = self.trainer.strategy.root_device if self.trainer is not None else "cpu"
        stream = JoinedReaders(readers, n_readers, (self.batch_size, self.d_in), n_ranks, self.exchange_dtype, device)
        if states:
            stream.load_state_dict({str(number): states[number] for number in readers})
        return stream

    def n_train_batches(self, checkpoint: Mapping[str, Any] | None = None) -> int:
        """Return the number of batches of one rank in an epoch.

        Args:
            checkpoint: that the run is resumed from, if it is.
        """
        if checkpoint is not None and (state := checkpoint.get(type(self).__qualname__)):
            self._n_readers = len(state["ranks"])
        return self._n_batches("train_samples", self.train_samples)

    def prepare_batch(self) -> None:
        """Prepare this rank's next training batch, so that it raises now, between steps, what it would raise later."""
        if self._train_stream is not None:
            self._train_stream.prepare()

    @override
    def val_dataloader(self) -> Loader:
        """Return held-out activations, the same at each validation."""
        self._describe_massive()
        return Loader(self.val_stream, self._n_batches("val_samples", self.val_samples))

    @override
    def test_dataloader(self) -> Loader:
        """Return the validation's activations."""
        return self.val_dataloader()

    @override
    def state_dict(self) -> dict[str, Any]:
        """Return the position of every reader and the statistics of nulls; a collective call.

        Where members lie on different ranks, each returns its own readers by number, which the strategy writes.
        """
        if self._train_stream is None:
            return {}
        nulls = {"nulls": self.source.state_dict()} if isinstance(self.source, NullSource) else {}
        massive = {STATE_KEY: self.massive.state_dict()} if self.massive is not None else {}
        own = self._train_stream.state_dict()
        ranks = own if distributed.is_over_members() else _gather(own, self.n_readers)
        return {"ranks": ranks, **nulls, **massive}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state for the next `train_dataloader()`; validation needs only what is known of the data."""
        self._to_load = state_dict
        self._n_readers = len(state_dict["ranks"])
        self.use_norms(state_dict.get(STATE_KEY, {}))
        if isinstance(self.source, NullSource):
            self.source.load_state_dict(state_dict.get("nulls", {}))

    def teardown(self, stage: str) -> None:
        """Report how many activations were left out because they are massive."""
        counts = (("training", self.massive_in_training()), ("held-out", self.massive_in_validation()))
        if left_out := [f"{n:,} of {of:,} {name} {self.unit} ({n / of:.2%})" for name, (n, of) in counts if n]:
            rank_zero_info(
                f"Left out as massive{' by this process' * (world_size(Ranks.ALL) > 1)}: {', '.join(left_out)}."
            )

    # Massive activations
    # ----------------------------------------------------------------------------------------------------

    def _prepare_massive(self) -> None:
        """Take the norms of the checkpoint that the trainer will load, or measure them: all ranks have those of rank 0.

        Members take their start, and evaluators look at the model, before Lightning loads the checkpoint.
        """
        if self.massive is None or self.trainer is None:
            return
        if (state := norms_of_checkpoint(self.checkpoint)) is not None:
            self.use_norms(state)
        self.massive.load_state_dict(all_gather_object(self.massive.state_dict(), Ranks.ALL)[0])

    def _check_same_ratio(self, state: Mapping[str, Any] | None) -> None:
        """Refuse to resume training with another `max_norm_ratio`."""
        if state and self.massive is not None and state["max_norm_ratio"] != self.massive.max_norm_ratio:
            raise ValueError(
                f"max_norm_ratio={self.massive.max_norm_ratio}: the run that is resumed has {state['max_norm_ratio']}; "
                "resume with its own config"
            )

    def use_norms(self, state: Mapping[str, Any]) -> None:
        """Take the norms of a saved state; one of before they were kept is of a run that left out nothing."""
        if self.massive is None:
            return
        if not state:
            self.massive.keep_all()
        elif state["norms"].keys() == (set(self.hook_widths) or {""}):
            self.massive.load_state_dict(state)

    def is_massive(self, x: Float[Tensor, "n d"], part: str) -> Bool[Tensor, " n"] | None:
        """Return which activations of a part are massive, whether they are left out or not; None where that is unknown.

        Args:
            x: raw activations.
            part: name of a hook or null, or "" for the only hook, or for all of several side by side.
        """
        if self.massive is None or part in self.null_parts:
            return None
        columns = columns_by_part(self.hook_widths) or {"": slice(None)}
        here = {part: slice(None)} if part in columns else columns
        return ~self.massive.keeps({hook: row_norms(x[:, own]) for hook, own in here.items()})

    def _describe_massive(self) -> None:
        """Say once what is massive and what is done with it."""
        if self.massive is not None and not self._has_described_massive:
            self._has_described_massive = True
            for line in self.massive.describe(self.unit):
                rank_zero_info(line)

    def _say_passes(self, n: int) -> None:
        """Say once that an epoch reads what there is more than once.

        Args:
            n: activations to train on, all ranks together.
        """
        passes = self.train_samples / n
        if passes >= _SEVERAL and not self._has_said_passes:
            self._has_said_passes = True
            rank_zero_info(
                f"train_samples={self.train_samples:,}: the {n:,} activations that there are to train on are read "
                f"{passes:.1f} times in an epoch."
            )

    def _n_batches(self, name: str, samples: int) -> int:
        n = self.n_readers if name == "train_samples" else self.world_size
        n_batches = samples // (self.batch_size * n)
        if not n_batches:
            raise ValueError(
                f"{name}={samples}: expected at least one batch for each of {n} processes, {self.batch_size * n}"
            )
        return n_batches


def check_batches(batch_size: int, train_samples: int, val_samples: int, seed: int) -> None:
    """Refuse sizes and seeds that cannot work; a datamodule that loads a model does so before it.

    Raises:
        ValueError: names the argument.
    """
    check_whole(1, batch_size=batch_size)
    one_batch = f"a batch at least, batch_size={batch_size}"
    check_whole(batch_size, train_samples=train_samples, val_samples=val_samples, hint=one_batch)
    check_seed(seed=seed)


def _gather(own: dict[str, Any], n_readers: int) -> list[dict[str, Any]]:
    """Return the states of all readers on the rank that writes checkpoints, elsewhere placeholders for others."""
    of_ranks = gather_on_first(own) if world_size() > 1 else [own]
    states = {number: state for of_rank in of_ranks for number, state in of_rank.items()}
    return [states.get(str(number), {}) for number in range(n_readers)]
