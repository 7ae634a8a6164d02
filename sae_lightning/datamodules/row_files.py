"""`RowFiles`: activations in files of the user's, as one list of rows that are read where they lie."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_lightning.files.finding import find_files
from sae_lightning.formats.weight_files import read_tensors

SUFFIXES = (".safetensors", ".npy", ".npz", ".pt", ".pth")


class RowFiles:
    """Rows [n, d_in] of files, one after another; a tensor [..., d_in] has its last dimension as rows.

    Rows of safetensors, npy and torch files stay in the file until they are asked for. An npz file may be compressed
    and is read whole.

    Args:
        paths: a file, a folder, a pattern, or a list of these; in a folder files of other kinds are left out.
        key: name of the tensor in each file. Default: the only one of floating-point numbers with two dimensions or
            more.

    Attributes:
        files: in the order of their rows.
        d_in: width of a row.

    Raises:
        ValueError: if there is no file, no such tensor, several, or one of another width or of no floating-point
            numbers.
    """

    def __init__(self, paths: str | list[str], key: str | None = None) -> None:
        self.files = _tensor_files(paths)
        tensors = [_tensor_of(path, key) for path in self.files]
        widths = {x.shape[-1]: path for path, x in reversed(list(zip(self.files, tensors, strict=True)))}
        if len(widths) > 1:
            listed = ", ".join(f"{path} has rows of width {width}" for width, path in sorted(widths.items()))
            raise ValueError(f"paths: {listed}: expected activations of one hook, all of one width")
        [self.d_in] = widths
        self._parts = [x.detach().reshape(-1, self.d_in) for x in tensors]
        self._ends = np.cumsum([len(part) for part in self._parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, numbers: Int64[Tensor, " n"]) -> Float[Tensor, "n d_in"]:
        """Return the rows of these numbers, float32.

        Raises:
            ValueError: if one of them is not finite; names its file and row.
        """
        files = np.searchsorted(self._ends, numbers.numpy(), side="right")
        x = torch.empty(len(numbers), self.d_in)
        for file in np.unique(files):
            here = torch.from_numpy(files == file)
            part = self._parts[file]
            own = numbers[here] - int(self._ends[file]) + len(part)
            x[here] = part[own].float()
            self._check_finite(x[here], own, int(file))
        return x

    def _check_finite(self, x: Float[Tensor, "n d_in"], numbers: Int64[Tensor, " n"], file: int) -> None:
        if (is_bad := ~x.isfinite().all(1)).any():
            row = int(numbers[is_bad].min())
            bad = x[numbers == row][0]
            place = int((~bad.isfinite()).nonzero()[0, 0])
            raise ValueError(
                f"{self.files[file]}: row {row} has {float(bad[place])} in dimension {place} (counted from 0); "
                "expected finite activations: leave out such rows, or capture them again in float32 or bfloat16"
            )


def _tensor_files(paths: str | Sequence[str]) -> list[Path]:
    """Return the files, in which order rows are read."""
    listed = [paths] if isinstance(paths, str) else list(paths)
    found = find_files("paths", listed)
    files = [path for path in found if path.suffix.lower() in SUFFIXES]
    named = {Path(path).expanduser().resolve() for path in listed}
    other = [path for path in found if path not in files and (path.resolve() in named or not files)]
    if other:
        raise ValueError(f"paths: {other[0]} is no file of activations: expected {', '.join(SUFFIXES)}")
    return files


def _tensor_of(path: Path, key: str | None) -> Tensor:
    """Return the tensor of activations in a file, [..., d_in] of floating-point numbers, one row at least."""
    tensors = read_tensors(path)
    held = ", ".join(f"{name or 'a tensor'} {list(x.shape)} of {_kind(x)}" for name, x in tensors.items())
    if key is not None and "" in tensors:
        raise ValueError(f"key={key}: {path} holds one tensor without a name; leave out the key")
    if key is not None and key not in tensors:
        raise ValueError(f"key={key}: {path} holds {held or 'no tensors'}")
    fitting = [x for name, x in tensors.items() if key in (None, name) and _is_of_rows(x)]
    if len(fitting) > 1:
        raise ValueError(f"{path} holds {held}: say with key which of them are the activations")
    if not fitting:
        raise ValueError(
            f"{path} holds {held or 'no tensors'}: expected floating-point numbers of shape [..., d_in], two "
            "dimensions or more and no empty one"
        )
    return fitting[0]


def _is_of_rows(x: Tensor) -> bool:
    return x.is_floating_point() and x.dim() >= 2 and x.numel() > 0


def _kind(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")
