"""Activations that are in files already, of any model and without it."""

from typing_extensions import override

from sae_lightning.datamodules.activation_rows import ActivationRows, check_row_arguments
from sae_lightning.datamodules.row_files import RowFiles
from sae_lightning.datamodules.row_split import HELDOUT_FRACTION, RowSplit, refuse_two_splits, split_rows
from sae_lightning.sources import Null

_NAMES = ("split_key", "group_key")


class ActivationFiles(ActivationRows):
    """Activations from files of yours: safetensors, npy, npz, Parquet, or torch files (pt, pth).

    A tensor of any shape [..., d_in] and any floating-point type is read as rows, and so is a Parquet column of lists.
    None is left out, massive ones neither.

    Args:
        paths: a file, a folder of shards, which are read in the order of their names, a pattern, or a list of these.
        key: name of the tensor in each file. Default: the only one of floating-point numbers with two dimensions or
            more.
        split_key: name of a tensor or column beside it that says which rows are held out: train or validation, or 0
            and 1. Default: none.
        group_key: name of a tensor or column beside it that says what a row belongs to, such as the number of its text:
            whole groups are held out, drawn at random. Default: none; the last rows are held out, in one piece.
        heldout_fraction: share of the rows that is held out, between 0 and 1; of groups at most this share.
        batch_size: activations in a batch of one rank.
        train_samples: activations in an epoch, all ranks together; all rows are seen once before one is seen again.
            Default: as many as there are.
        val_samples: held-out activations in a validation, all ranks together. Default: as many as there are.
        nulls: null versions of the activations, by names of yours, on which a SanityPanel trains the same SAEs again:
            GaussianMatched, ShuffledDimensions, RandomDirections, RandomRotation. Default: none.
        seed: decides the order of the training rows.

    Raises:
        ValueError: if the files have no such activations, or fewer than are asked for.
    """

    rows: RowFiles

    def __init__(
        self,
        paths: str | list[str],
        key: str | None = None,
        split_key: str | None = None,
        group_key: str | None = None,
        heldout_fraction: float = HELDOUT_FRACTION,
        batch_size: int = 1024,
        train_samples: int | None = None,
        val_samples: int | None = None,
        nulls: dict[str, Null] | None = None,
        seed: int = 0,
    ) -> None:
        check_row_arguments(heldout_fraction, batch_size, train_samples, val_samples, seed)
        self.paths, self.key, self.heldout_fraction = paths, key, heldout_fraction
        self.split_key, self.group_key = split_key, group_key
        rows, split = read_rows(paths, key, split_key, group_key, heldout_fraction)
        self._use(rows, split, batch_size, train_samples, val_samples, nulls, seed)

    @property
    @override
    def title(self) -> str:
        return self.rows.files[0].name


def read_rows(
    paths: str | list[str],
    key: str | None = None,
    split_key: str | None = None,
    group_key: str | None = None,
    heldout_fraction: float = HELDOUT_FRACTION,
) -> tuple[RowFiles, RowSplit]:
    """Return the rows of files, and which are held out; arguments and errors as those of `ActivationFiles`."""
    refuse_two_splits(split_key, group_key, heldout_fraction, _NAMES)
    given = [name for name in (split_key, group_key) if name is not None]
    rows = RowFiles(paths, key, given)
    marks, groups = (None if name is None else rows.columns[name] for name in (split_key, group_key))
    return rows, split_rows(len(rows), heldout_fraction, marks, groups, _NAMES)
