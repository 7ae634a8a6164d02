"""Activations that are there already, of any model and without it: what files and tensors of them have in common.

Nothing is known of the model, so no evaluator runs it, and whether an SAE is of these activations is known only of one
that was trained on the same rows.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Iterator
from functools import partial

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from typing_extensions import override

from sae_lightning.checks import check_inside
from sae_lightning.datamodules.base import ActivationDataModule, check_batches
from sae_lightning.datamodules.row_files import Rows
from sae_lightning.datamodules.row_split import HELDOUT_FRACTION, RowSplit, take
from sae_lightning.datamodules.rows import RowSource, RowStream, endless_order
from sae_lightning.moving_line import LINE
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.fingerprint import fingerprint
from sae_lightning.sources import ActivationSource, Null, NullSource

_N_HASHED = 256
"""Rows, evenly spaced, by which the activations are known."""
_KIND = "ActivationFiles"
"""What an SAE says that it is of: the same rows are the same activations, in files as in memory."""


class ActivationRows(ActivationDataModule):
    """A fixed number of activations, on two sides: to train on and held out.

    Attributes:
        rows: all of them.
        split: which are to train on and which are held out.
        n_train: how many are to train on.
    """

    source: RowSource | NullSource
    rows: Rows
    split: RowSplit

    @property
    @abstractmethod
    def title(self) -> str:
        """What messages call the activations."""

    def _use(
        self,
        rows: Rows,
        split: RowSplit,
        batch_size: int,
        train_samples: int | None,
        val_samples: int | None,
        nulls: dict[str, Null] | None,
        seed: int,
    ) -> None:
        """Take the rows and their split.

        Raises:
            ValueError: if a side has fewer rows than are asked for, or a number is not finite.
        """
        n_train, n_heldout = len(split.train), len(split.heldout)
        if (most := min(n_train, n_heldout)) < batch_size:
            raise ValueError(
                f"batch_size={batch_size}: {split.said} {n_train:,} to train on and {n_heldout:,} held out; expected a "
                f"batch of each at least: give {f'batch_size={most}, or ' if most else ''}more rows"
            )
        if val_samples is not None and val_samples > n_heldout:
            raise ValueError(
                f"val_samples={val_samples}: {split.said} {n_heldout:,} held out; expected at most as many"
            )
        rows.look_through()
        super().__init__(batch_size, train_samples or n_train, val_samples or n_heldout, seed)
        self.rows, self.split, self.n_train = rows, split, n_train
        source = RowSource(_KIND, rows.d_in, rows=len(rows), activations=_fingerprint(rows))
        self.source = NullSource(source, nulls, partial(self._sample, source)) if nulls else source

    @override
    def train_stream(self) -> RowStream:
        """Return this rank's training stream, from its beginning."""
        self._say_passes(self.n_train)
        return RowStream(partial(self._train_rows, self.source), self.n_train, self.batch_size, self.seed, *self.share)

    @override
    def val_stream(self) -> Iterator[Float[Tensor, "batch d_in"]]:
        """Iterate over this rank's held-out batches: every `world_size`-th, in the order of the rows."""
        step = self.batch_size * self.world_size
        for begin in range(self.rank * self.batch_size, len(self.split.heldout) - self.batch_size + 1, step):
            yield self._read(self.source, take(self.split.heldout, torch.arange(begin, begin + self.batch_size)))

    @override
    def calibration_sample(self, n: int) -> Float[Tensor, "n d_in"]:
        """Return the first n training rows of the order; beyond their number they are repeated."""
        return self._sample(self.source, n)

    @override
    def refuse_sae_of_others(self, sae: SparseAutoencoder, name: str, part: str = "", target: str = "") -> None:
        """Say of an SAE that was not trained on these rows that nothing tells whether it is of their model and hook.

        Args:
            sae: that is to read them.
            name: of the SAE, for the message.
            part: that it is to read.
            target: part at which a transcoder is to answer.

        Raises:
            ValueError: if it was trained on another part of these rows.
        """
        own = sae.provenance.get("activations") or {}
        if own.get("activations") == self.source.describe(part)["activations"]:
            super().refuse_sae_of_others(sae, name, part, target)
        elif "control" not in sae.provenance and (known := fingerprint(sae.state_dict())) not in _SAID:
            _SAID.add(known)
            LINE.say(
                f"{name} was not trained on {self.title}: whether it is of the same model and hook cannot be checked"
            )

    def _read(self, source: ActivationSource, numbers: Int64[Tensor, " n"]) -> Float[Tensor, "n d_in"]:
        return source.capture(self.rows[numbers])[0]

    def _train_rows(self, source: ActivationSource, places: Int64[Tensor, " n"]) -> Float[Tensor, "n d_in"]:
        return self._read(source, take(self.split.train, places))

    def _sample(self, source: ActivationSource, n: int) -> Float[Tensor, "n d_in"]:
        return self._train_rows(source, endless_order(self.n_train, self.seed, 0, n))


def check_row_arguments(
    heldout_fraction: float, batch_size: int, train_samples: int | None, val_samples: int | None, seed: int
) -> None:
    """Refuse numbers that cannot work before anything is read.

    Raises:
        ValueError: names the argument.
    """
    check_inside(0, 1, heldout_fraction=heldout_fraction, hint=f"such as {HELDOUT_FRACTION}")
    n_train = batch_size if train_samples is None else train_samples
    n_val = batch_size if val_samples is None else val_samples
    check_batches(batch_size, n_train, n_val, seed)


_SAID: set[str] = set()
"""SAEs, by their content, of which it was said that nothing tells of which model they are."""


def _fingerprint(rows: Rows) -> str:
    """Return sixteen characters that tell activations apart, however they are spread over files."""
    chosen = torch.arange(min(len(rows), _N_HASHED)) * len(rows) // min(len(rows), _N_HASHED)
    digest = hashlib.sha256(f"{len(rows)} {rows.d_in}".encode())
    digest.update(rows[chosen].numpy().tobytes())
    return digest.hexdigest()[:16]
