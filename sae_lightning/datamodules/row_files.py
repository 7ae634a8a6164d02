"""`Rows` and `RowFiles`: activations in memory or in files of the user's, as one list of rows."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_lightning.datamodules.parquet_rows import read_parquet
from sae_lightning.datamodules.row_split import Column, spread
from sae_lightning.files.finding import find_files
from sae_lightning.formats.weight_files import read_tensors

PARQUET = ".parquet"
SUFFIXES = (".safetensors", ".npy", ".npz", ".pt", ".pth", PARQUET)
LOOKED_THROUGH = 2**30
"""Bytes up to which all rows are searched for numbers that are not finite before anything is trained."""
_ROWS_AT_ONCE = 4096
OF_ROWS = "floating-point numbers of shape [..., d_in], two dimensions or more and no empty one"


class Rows:
    """Rows [n, d_in] of tensors, one after another; a tensor [..., d_in] has its last dimension as rows.

    Args:
        tensors: floating-point activations, by what messages call them.

    Attributes:
        names: of the tensors, in the order of their rows.
        d_in: width of a row.

    Raises:
        ValueError: if widths differ.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.names = list(tensors)
        widths = {x.shape[-1]: name for name, x in reversed(list(tensors.items()))}
        if len(widths) > 1:
            listed = ", ".join(f"{name} has rows of width {width}" for width, name in sorted(widths.items()))
            raise ValueError(f"paths: {listed}: expected activations of one hook, all of one width")
        [self.d_in] = widths
        self._parts = [x.detach().reshape(-1, self.d_in) for x in tensors.values()]
        self._ends = np.cumsum([len(part) for part in self._parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, numbers: Int64[Tensor, " n"]) -> Float[Tensor, "n d_in"]:
        """Return the rows of these numbers, float32.

        Raises:
            ValueError: if one of them is not finite; names its tensor and row.
        """
        owners = np.searchsorted(self._ends, numbers.numpy(), side="right")
        x = torch.empty(len(numbers), self.d_in)
        for owner in np.unique(owners):
            here = torch.from_numpy(owners == owner)
            part = self._parts[owner]
            own = numbers[here] - int(self._ends[owner]) + len(part)
            x[here] = part[own].to("cpu", torch.float32)
            self._check_finite(x[here], own, int(owner))
        return x

    def look_through(self) -> None:
        """Search all rows for a number that is not finite, unless they are more than `LOOKED_THROUGH`.

        Those of more are looked at when they are read.

        Raises:
            ValueError: names its tensor and row.
        """
        if sum(part.numel() * part.element_size() for part in self._parts) <= LOOKED_THROUGH:
            for begin in range(0, len(self), _ROWS_AT_ONCE):
                self[torch.arange(begin, min(begin + _ROWS_AT_ONCE, len(self)))]

    def _check_finite(self, x: Float[Tensor, "n d_in"], numbers: Int64[Tensor, " n"], owner: int) -> None:
        if (is_bad := ~x.isfinite().all(1)).any():
            row = int(numbers[is_bad].min())
            bad = x[numbers == row][0]
            place = int((~bad.isfinite()).nonzero()[0, 0])
            raise ValueError(
                f"{self.names[owner]}: row {row} has {float(bad[place])} in dimension {place} (counted from 0); "
                "expected finite activations: leave out such rows, or capture them again in float32 or bfloat16"
            )


class RowFiles(Rows):
    """Rows of files, one after another.

    Rows of safetensors, npy and torch files stay in the file until they are asked for. npz and Parquet files may be
    compressed and are read whole.

    Args:
        paths: a file, a folder, a pattern, or a list of these; in a folder files of other kinds are left out.
        key: name of the tensor, or column of lists, in each file. Default: the only one of floating-point numbers with
            two dimensions or more.
        columns: names of tensors or columns that have a value for each row, or for each of its first dimensions.

    Attributes:
        files: in the order of their rows.
        columns: values [n] by name.

    Raises:
        ValueError: if there is no file, no such tensor, several, or one of another width or of no floating-point
            numbers.
    """

    def __init__(self, paths: str | list[str], key: str | None = None, columns: Sequence[str] = ()) -> None:
        self.files = _tensor_files(paths)
        tensors: dict[str, Tensor] = {}
        values: dict[str, list[Column]] = {name: [] for name in columns}
        for path in self.files:
            content = _read(path, key, columns)
            tensors[str(path)] = _tensor_of(path, key, {k: x for k, x in content.items() if k not in columns})
            for name in columns:
                values[name].append(_column_of(path, name, content, tensors[str(path)].shape[:-1]))
        super().__init__(tensors)
        self.columns = {name: np.concatenate(parts) for name, parts in values.items()}


def _read(path: Path, key: str | None, columns: Collection[str]) -> "dict[str, Tensor | Column]":
    """Return the tensors in a file by name, and in a Parquet file columns as arrays, too."""
    if path.suffix.lower() == PARQUET:
        return read_parquet(path, key, columns)
    return dict(read_tensors(path))


def _column_of(path: Path, name: str, content: "Mapping[str, Tensor | Column]", leading: Sequence[int]) -> Column:
    """Return a value for each row [n] of activations of this leading shape; one for each of several rows is repeated.

    Raises:
        ValueError: if the file has no such values, or they do not fit.
    """
    if name not in content:
        names = ", ".join(content) if "" not in content else "one tensor without a name"
        raise ValueError(
            f"{path} has no {name} beside the activations (it holds {names or 'no other columns'}); expected a value "
            "for each row, in the same safetensors, npz, torch or Parquet file"
        )
    return spread(f"{path}: {name}", content[name], leading)


def _tensor_files(paths: str | Sequence[str]) -> list[Path]:
    """Return the files, in which order rows are read."""
    listed = [paths] if isinstance(paths, str) else list(paths)
    listed_files = find_files("paths", listed)
    files = [path for path in listed_files if path.suffix.lower() in SUFFIXES]
    named = {Path(path).expanduser().resolve() for path in listed}
    other = [path for path in listed_files if path not in files and (path.resolve() in named or not files)]
    if other:
        raise ValueError(f"paths: {other[0]} is no file of activations: expected {', '.join(SUFFIXES)}")
    return files


def _tensor_of(path: Path, key: str | None, content: "Mapping[str, Tensor | Column]") -> Tensor:
    """Return the tensor of activations in a file, [..., d_in] of floating-point numbers, one row at least."""
    tensors = {name: x for name, x in content.items() if isinstance(x, Tensor)}
    held = ", ".join(f"{name or 'a tensor'} {list(x.shape)} of {_kind(x)}" for name, x in tensors.items())
    if key is not None and "" in tensors:
        raise ValueError(f"key={key}: {path} holds one tensor without a name; leave out the key")
    if key is not None and key not in tensors:
        raise ValueError(f"key={key}: {path} holds {held or 'no tensors'}")
    fitting = [x for name, x in tensors.items() if key in (None, name) and is_of_rows(x)]
    if len(fitting) > 1:
        raise ValueError(f"{path} holds {held}: say with key which of them are the activations")
    if not fitting:
        raise ValueError(f"{path} holds {held or 'no tensors'}: expected {OF_ROWS}")
    return fitting[0]


def is_of_rows(x: Tensor) -> bool:
    """Return whether a tensor can be read as activations."""
    return x.is_floating_point() and x.dim() >= 2 and x.numel() > 0


def _kind(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")
