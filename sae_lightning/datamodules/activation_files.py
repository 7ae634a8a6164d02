"""Activations that are in files already, of any model and without it.

The last rows are held out, in one piece: neighbouring rows may be of one text. Nothing is known of the model, so no
evaluator runs it, and whether an SAE is of these activations is known only of one that was trained on these files.
"""

import hashlib
import sys
from collections.abc import Iterator
from functools import partial

import torch
from jaxtyping import Float, Int64
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from typing_extensions import override

from sae_lightning.checks import check_inside
from sae_lightning.datamodules.base import ActivationDataModule, check_batches
from sae_lightning.datamodules.row_files import RowFiles
from sae_lightning.datamodules.rows import RowSource, RowStream, endless_order
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.fingerprint import fingerprint
from sae_lightning.sources import ActivationSource, Null, NullSource

HELDOUT_FRACTION = 0.1
_N_HASHED = 256
"""Rows, evenly spaced, by which the activations are known."""


class ActivationFiles(ActivationDataModule):
    """Activations from files of yours: safetensors, npy, npz, or torch files (pt, pth).

    A tensor of any shape [..., d_in] and any floating-point type is read as rows. None is left out, massive ones
    neither.

    Args:
        paths: a file, a folder of shards, which are read in the order of their names, a pattern, or a list of these.
        key: name of the tensor in each file. Default: the only one of floating-point numbers with two dimensions or
            more.
        heldout_fraction: share of the rows that is held out, the last ones; between 0 and 1.
        batch_size: activations in a batch of one rank.
        train_samples: activations in an epoch, all ranks together; all rows are seen once before one is seen again.
            Default: as many as there are.
        val_samples: held-out activations in a validation, all ranks together. Default: as many as there are.
        nulls: null versions of the activations, by names of yours, on which a SanityPanel trains the same SAEs again:
            GaussianMatched, ShuffledDimensions, RandomDirections, RandomRotation. Default: none.
        seed: decides the order of the training rows.

    Attributes:
        rows: of all files, held-out ones last.
        n_train: how many of them are for training.

    Raises:
        ValueError: if the files have no such activations, or fewer than are asked for.
    """

    source: RowSource | NullSource

    def __init__(
        self,
        paths: str | list[str],
        key: str | None = None,
        heldout_fraction: float = HELDOUT_FRACTION,
        batch_size: int = 1024,
        train_samples: int | None = None,
        val_samples: int | None = None,
        nulls: dict[str, Null] | None = None,
        seed: int = 0,
    ) -> None:
        check_inside(0, 1, heldout_fraction=heldout_fraction, hint=f"such as {HELDOUT_FRACTION}")
        n_train = batch_size if train_samples is None else train_samples
        n_val = batch_size if val_samples is None else val_samples
        check_batches(batch_size, n_train, n_val, seed)  # before anything is read
        self.paths, self.key, self.heldout_fraction = paths, key, heldout_fraction
        self.rows = RowFiles(paths, key)
        self.n_train, n_heldout = split_rows(len(self.rows), heldout_fraction)
        parts = f"heldout_fraction={heldout_fraction:g} of {len(self.rows):,} rows leaves"
        if self.n_train < batch_size or n_heldout < batch_size:
            raise ValueError(
                f"batch_size={batch_size}: {parts} {self.n_train:,} to train on and {n_heldout:,} held out; expected a "
                "batch of each at least"
            )
        if val_samples is not None and val_samples > n_heldout:
            raise ValueError(f"val_samples={val_samples}: {parts} {n_heldout:,} held out; expected at most as many")
        super().__init__(batch_size, train_samples or self.n_train, val_samples or n_heldout, seed)
        source = RowSource("ActivationFiles", self.rows.d_in, rows=len(self.rows), activations=_fingerprint(self.rows))
        self.source = NullSource(source, nulls, partial(self._sample, source)) if nulls else source
        self._has_said_passes = False

    @override
    def train_stream(self) -> RowStream:
        """Return this rank's training stream, from its beginning."""
        self._say_passes()
        return RowStream(partial(self._read, self.source), self.n_train, self.batch_size, self.seed, *self.share)

    @override
    def val_stream(self) -> Iterator[Float[Tensor, "batch d_in"]]:
        """Iterate over this rank's held-out batches: every `world_size`-th, in the order of the rows."""
        step = self.batch_size * self.world_size
        first = self.n_train + self.rank * self.batch_size
        for begin in range(first, len(self.rows) - self.batch_size + 1, step):
            yield self._read(self.source, torch.arange(begin, begin + self.batch_size))

    @override
    def calibration_sample(self, n: int) -> Float[Tensor, "n d_in"]:
        """Return the first n training rows of the order; beyond their number they are repeated."""
        return self._sample(self.source, n)

    @override
    def refuse_sae_of_others(self, sae: SparseAutoencoder, name: str, part: str = "") -> None:
        """Say of an SAE that was not trained on these files that nothing tells whether it is of their model and hook.

        Args:
            sae: that is to read them.
            name: of the SAE, for the message.
            part: that it is to read.

        Raises:
            ValueError: if it was trained on another part of these files.
        """
        own = sae.provenance.get("activations") or {}
        if own.get("activations") == self.source.describe(part)["activations"]:
            super().refuse_sae_of_others(sae, name, part)
        elif "control" not in sae.provenance and (known := fingerprint(sae.state_dict())) not in _SAID:
            _SAID.add(known)
            sys.stderr.write(
                f"{name} was not trained on {self.rows.files[0].name}: whether it is of the same model and hook cannot "
                "be checked\n"
            )

    def _read(self, source: ActivationSource, numbers: Int64[Tensor, " n"]) -> Float[Tensor, "n d_in"]:
        return source.capture(self.rows[numbers])[0]

    def _sample(self, source: ActivationSource, n: int) -> Float[Tensor, "n d_in"]:
        return self._read(source, endless_order(self.n_train, self.seed, 0, n))

    def _say_passes(self) -> None:
        """Say once that rows are read more than once."""
        if self.train_samples > self.n_train and not self._has_said_passes:
            self._has_said_passes = True
            rank_zero_info(
                f"train_samples={self.train_samples:,}: the {self.n_train:,} training rows are read "
                f"{self.train_samples / self.n_train:.1f} times in an epoch, each time in another order."
            )


_SAID: set[str] = set()
"""SAEs, by their content, of which it was said that nothing tells of which model they are."""


def split_rows(n: int, heldout_fraction: float) -> tuple[int, int]:
    """Return how many of n rows are for training, the first ones, and how many are held out.

    >>> split_rows(1000, 0.1)
    (900, 100)
    """
    n_heldout = round(n * heldout_fraction)
    return n - n_heldout, n_heldout


def _fingerprint(rows: RowFiles) -> str:
    """Return sixteen characters that tell activations apart, however they are spread over files."""
    chosen = torch.arange(min(len(rows), _N_HASHED)) * len(rows) // min(len(rows), _N_HASHED)
    digest = hashlib.sha256(f"{len(rows)} {rows.d_in}".encode())
    digest.update(rows[chosen].numpy().tobytes())
    return digest.hexdigest()[:16]
