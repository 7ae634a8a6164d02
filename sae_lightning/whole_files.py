"""Files that are there as a whole or not at all: written beside their place, and renamed when they are complete."""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; after the block, if it raised nothing, it is synced and becomes `path`.

    An older file of that name stays as it was until then, also after an error.

    Raises:
        ValueError: if the file cannot be written: the disk is full, the folder is read-only, the name is too long.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        free = _free_bytes(path.parent)
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if not isinstance(error, Exception) or (cause := _cause(error, free)) is None:
            raise
        kept = "; the older file of that name is as it was" if os.path.isfile(path) else ""  # noqa: PTH113 - a name may be too long
        raise ValueError(f"{path} was not written: {cause}{kept}") from error


def write_whole(path: Path, text: str) -> None:
    """Write a text file, UTF-8.

    Raises:
        ValueError: if it cannot be written.
    """
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8", errors="replace")


def _cause(error: BaseException, free: int | None) -> str | None:
    """Return in words why a file could not be written; None where the error is of another kind."""
    causes: list[BaseException] = [error]  # torch and safetensors report a full disk as an error of their own
    while (next_one := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(next_one)
    if any(getattr(one, "errno", None) in _FULL or "No space left" in str(one) for one in causes):
        return f"the disk is full ({0 if free is None else free / 1e6:.1f} MB are free)"
    if isinstance(error, RuntimeError) and ("unexpected pos" in str(error) or "PytorchStreamWriter" in str(error)):
        return "the disk is full, or a quota on it"
    return error.strerror or str(error) if isinstance(error, OSError) else None


def _free_bytes(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def set_aside(results: Path, settings: Mapping[str, Any], beside: Sequence[str] = ()) -> list[Path]:
    """Rename the results of an earlier study that had other settings, so that new ones do not take their place.

    Args:
        results: JSON with the settings of the study under ``settings``; nothing is done where there is none.
        settings: of the new study, as JSON has them.
        beside: names of files in the same folder that belong to the results.

    Returns:
        The new paths: of ``stitch.json`` it is ``stitch.1.json``, or with the next free number.
    """
    if not results.is_file():
        return []
    try:
        if json.loads(results.read_text(encoding="utf-8")).get("settings") == json.loads(json.dumps(settings)):
            return []
    except (ValueError, AttributeError):
        pass  # damaged, and kept for whoever wants to look at it
    number = next(n for n in count(1) if not results.with_suffix(f".{n}{results.suffix}").exists())
    moved = []
    for path in (results, *(results.with_name(name) for name in beside)):
        if path.is_file():
            moved.append(path.replace(path.with_suffix(f".{number}{path.suffix}")))
    return moved
