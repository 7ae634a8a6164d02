"""Files with weights that somebody else wrote: what is in them is checked before memory is taken for it.

No file makes this program run code: pickles are read with `weights_only=True`, arrays without pickles. Sizes are those
of the file: a header that promises more than the file holds is refused.
"""

import io
import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

SAFETENSORS, TORCH, NUMPY, ARRAY = (".safetensors",), (".pt", ".pth", ".bin", ".ckpt"), (".npz",), (".npy",)
WEIGHT_FILES = (*SAFETENSORS, *TORCH, *NUMPY)
_LARGEST_NPY_HEADER = 10_000
_LARGEST_HEADER_LINE = 1_000_000
HEADER, AFTER_HEADER = "header of the file", "after the header"
"""What `read_weights` returns of a torch file that stands after a line of JSON, as saev writes it."""


def read_weights(path: Path) -> dict[str, Any]:
    """Return what is in a file: tensors by name, and in torch files whatever else stands beside them.

    Tensors of safetensors and torch files lie in the file until they are used.

    Args:
        path: a safetensors, torch or npz file.

    Raises:
        ValueError: if it is damaged, needs code to be read, promises more than it holds, or is no such file.
    """
    kind = path.suffix.lower()
    if kind in SAFETENSORS:
        return _safetensors(path)
    return _npz(path) if kind in NUMPY else _torch(path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a file by name, "" for one that stands alone; what else is in it is left out.

    Those of safetensors, torch and npy files lie in the file until they are used.

    Args:
        path: a safetensors, torch, npz or npy file.

    Raises:
        ValueError: if it is damaged, needs code to be read, promises more than it holds, or is no such file.
    """
    kind = path.suffix.lower()
    if kind in ARRAY:
        return {"": _npy(path)}
    content = _torch_content(path, path, path.stat().st_size) if kind in TORCH else read_weights(path)
    return dict(_tensors_in(content))


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, "pt") as file:  # checks the header against the file
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged, cut off or no safetensors file ({error}): fetch it again, or write it anew"
        ) from error


def _torch(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        if file.peek(1)[:1] != b"{":  # neither a zip archive nor a pickle begins so
            return _state_dict(path, path, path.stat().st_size)
        header, rest = file.readline(_LARGEST_HEADER_LINE), file.read()
    try:
        return {HEADER: json.loads(header), AFTER_HEADER: _state_dict(path, io.BytesIO(rest), len(rest))}
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} begins with a line of JSON that is damaged or cut off: {error}") from error


def _state_dict(path: Path, source: Path | io.BytesIO, size: int) -> dict[str, Any]:
    content = _torch_content(path, source, size)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}: expected a state_dict, tensors by name")
    return content


def _torch_content(path: Path, source: Path | io.BytesIO, size: int) -> Any:  # noqa: ANN401
    """Return what a torch file holds: a dict or a tensor whose sizes are those of the file, or something else."""
    is_zip = zipfile.is_zipfile(source)
    if is_zip:
        with zipfile.ZipFile(source) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > size:
            raise ValueError(
                f"{path} has {size} bytes and would unpack to {unpacked}: torch files are not compressed, so this one "
                "was not written by torch.save"
            )
    if isinstance(source, io.BytesIO):
        source.seek(0)
    try:
        mapped = is_zip and isinstance(source, Path)
        content = torch.load(source, map_location="cpu", weights_only=True, mmap=mapped or None)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise ValueError(
            f"{path} holds more than tensors and plain values"
            + (f" ({wanted[1]})" if wanted else "")
            + ", and reading that would run code of the file: if you trust it, load it with the library that wrote it "
            "and save its state_dict, torch.save(sae.state_dict(), ...)"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged, cut off or no torch file ({str(error).splitlines()[0][:300]})") from error
    for name, tensor in _tensors_in(content):
        if tensor.numel() * tensor.element_size() > size:
            raise ValueError(
                f"{path}: {name} has the shape {list(tensor.shape)}, more than the {size} bytes of the file hold"
            )
    return content


def _npz(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as file:
                    version = np.lib.format.read_magic(file)
                    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else _header_2_0
                    shape, _, dtype = read(file, max_header_size=_LARGEST_NPY_HEADER)
                    begin = file.tell()
                if dtype.hasobject:
                    raise ValueError(f"{entry.filename} holds Python objects, and reading these would run code")
                if int(np.prod(shape, dtype=object)) * dtype.itemsize != entry.file_size - begin:
                    raise ValueError(f"{entry.filename} has the shape {list(shape)}, and not as many numbers")
                if entry.file_size > 100 * max(entry.compress_size, 1) and entry.file_size > 2**20:
                    raise ValueError(f"{entry.filename} would unpack from {entry.compress_size} to {entry.file_size}")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, TypeError) as error:
        raise ValueError(f"{path} is damaged, cut off or no npz file of numbers ({error})") from error


def _npy(path: Path) -> Tensor:
    try:
        # Copy-on-write: torch warns of memory that cannot be written to.
        return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
    except (ValueError, OSError, EOFError, TypeError) as error:
        raise ValueError(f"{path} is damaged, cut off or no npy file of numbers ({error})") from error


def _header_2_0(file: Any, max_header_size: int) -> Any:  # noqa: ANN401
    return np.lib.format.read_array_header_2_0(file, max_header_size=max_header_size)


def _tensors_in(content: Any, place: str = "") -> list[tuple[str, Tensor]]:  # noqa: ANN401
    """Return a tensor, or all tensors of a nested dict, with their places; none of anything else."""
    if isinstance(content, Tensor):
        return [(place, content)]
    if not isinstance(content, dict):
        return []
    before = f"{place}." if place else ""
    return [one for key, value in content.items() for one in _tensors_in(value, f"{before}{key}")]
