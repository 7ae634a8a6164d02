"""A checkpoint that several ranks have written: a file with what all of them know, and beside it a part of each rank.

    step=100.ckpt                     everything but what follows, and the names of the parts
    step=100.ckpt.parts/TOKEN/0.pt    tensors of SAEs and of their optimizer, and the readers of the data, of rank 0
    step=100.ckpt.parts/TOKEN/1.pt    ... of rank 1

`join` makes of them the checkpoint that one process would have written, which any number of ranks can load; tensors
stay on the disk until they are used. The file is written last. A token is new for each save, so the parts of the
checkpoint before it stay whole until then.
"""

import pickle
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

PARTS = "parts"
"""Key of the names of the parts in a checkpoint."""


def part_folder(path: Path, token: str) -> Path:
    """Return the folder of the parts that belong to one save of a checkpoint."""
    return _all_parts(path) / token


def _all_parts(path: Path) -> Path:
    return path.with_name(f"{path.name}.parts")


def remove_parts(path: Path, but: str = "") -> None:
    """Remove the parts of a checkpoint.

    Args:
        path: of the checkpoint.
        but: token of those that stay.
    """
    folder = _all_parts(path)
    for old in folder.glob("*"):
        if old.name != but:
            shutil.rmtree(old, ignore_errors=True)
    if not but and folder.is_dir():
        shutil.rmtree(folder, ignore_errors=True)


def join(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return a checkpoint with what is in its parts, if it has any.

    Args:
        checkpoint: as it was read; changed in place.
        path: that it was read from.

    Raises:
        ValueError: if a part is missing or damaged.
    """
    if PARTS not in checkpoint:
        return checkpoint
    about = checkpoint.pop(PARTS)
    folder = part_folder(path.resolve(), about["token"])
    parts = [_read(folder / name) for name in about["names"]]
    checkpoint["state_dict"] = _union([part["state_dict"] for part in parts])
    for number, state in enumerate(checkpoint.get("optimizer_states", ())):
        own = _union([part["optimizers"][number] for part in parts if part["optimizers"]])
        state["state"] = {place: own[name] for place, name in enumerate(about["optimized"]) if name in own}
    if about["losses"] is not None:
        columns = _union([part["losses"] for part in parts])
        key, members = about["losses"]
        checkpoint[key]["log_sums"] = torch.stack([columns[member] for member in members], 1)
    if about["data"] is not None:
        readers = _union([part["readers"] for part in parts])
        checkpoint[about["data"]]["ranks"] = [readers[str(number)] for number in range(len(readers))]
    return checkpoint


def _union(mappings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {key: value for mapping in mappings for key, value in mapping.items()}


def _read(path: Path) -> dict[str, Any]:
    try:
        part: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{path}: this part of a checkpoint is missing, cut off or damaged ({type(error).__name__}). A checkpoint "
            "of several ranks is a file and the folder of the same name that ends in .parts: copy both, to one disk"
        ) from error
    return part
