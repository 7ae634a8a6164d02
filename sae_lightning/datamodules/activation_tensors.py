"""Activations in memory: a tensor of yours as data, in Python alone."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from sae_lightning.datamodules.activation_rows import ActivationRows, check_row_arguments
from sae_lightning.datamodules.row_files import OF_ROWS, Rows, is_of_rows
from sae_lightning.datamodules.row_split import HELDOUT_FRACTION, refuse_two_splits, split_rows, spread
from sae_lightning.provenance import sampled_fingerprint
from sae_lightning.sources import Null

_NAMES = ("heldout", "groups")


class ActivationTensors(ActivationRows):
    """Activations in memory, as a tensor or array of yours; on the command line take ActivationFiles.

    Args:
        activations: [..., d_in] floating-point numbers of any type, read as rows and not copied.
        heldout: which of them are held out, truth values [...], or as many of its first dimensions. Default: none is
            marked.
        groups: what each belongs to, such as the number of its text, whole numbers [...], or as many of its first
            dimensions: whole groups are held out, drawn at random. Default: the last rows are held out, in one piece.
        heldout_fraction: share of the rows that is held out, between 0 and 1; of groups at most this share.
        batch_size: activations in a batch of one rank.
        train_samples: activations in an epoch, all ranks together; all rows are seen once before one is seen again.
            Default: as many as there are.
        val_samples: held-out activations in a validation, all ranks together. Default: as many as there are.
        nulls: null versions of the activations, see ActivationFiles. Default: none.
        seed: decides the order of the training rows.

    Raises:
        ValueError: if these are no activations, a number is not finite, or there are fewer than are asked for.
    """

    def __init__(
        self,
        activations: Any,
        heldout: Any = None,
        groups: Any = None,
        heldout_fraction: float = HELDOUT_FRACTION,
        batch_size: int = 1024,
        train_samples: int | None = None,
        val_samples: int | None = None,
        nulls: dict[str, Null] | None = None,
        seed: int = 0,
    ) -> None:
        check_row_arguments(heldout_fraction, batch_size, train_samples, val_samples, seed)
        refuse_two_splits(heldout, groups, heldout_fraction, _NAMES)
        x = _activations(activations)
        columns = {
            name: spread(name, values, x.shape[:-1])
            for name, values in zip(_NAMES, (heldout, groups), strict=True)
            if values is not None
        }
        marks, of_group = (columns.get(name) for name in _NAMES)
        self.heldout_fraction = heldout_fraction
        split = split_rows(x.shape[:-1].numel(), heldout_fraction, marks, of_group, _NAMES)
        self._use(Rows({self.title: x}), split, batch_size, train_samples, val_samples, nulls, seed)

    @override
    def describe(self) -> dict[str, Any]:
        """Return class and arguments, and which rows are held out."""
        heldout = self.split.heldout
        which = [heldout.start, heldout.stop] if isinstance(heldout, range) else sampled_fingerprint({"": heldout})
        return super().describe() | {"heldout": which}

    @property
    @override
    def title(self) -> str:
        return "these tensors"


def _activations(x: Any) -> Tensor:
    """Return activations [..., d_in] as a tensor, of one row at least.

    Raises:
        ValueError: if they are none.
    """
    if isinstance(x, np.ndarray):
        x = torch.as_tensor(x)
    if not isinstance(x, Tensor):
        raise ValueError(f"activations is of type {type(x).__name__}: expected a tensor or array [..., d_in]")
    if not is_of_rows(x):
        raise ValueError(f"activations is {list(x.shape)} of {x.dtype}: expected {OF_ROWS}")
    return x
