"""`Place`: a folder or a file in which an adapter looks for an SAE."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from sae_lightning.formats.weight_files import WEIGHT_FILES, read_weights

LARGEST_CONFIG = 20_000_000
"""Bytes; a configuration has thousands."""


class Place:
    """A folder with the files of an SAE, or one weight file and what lies beside it.

    What is read is kept, so each adapter may look.

    Args:
        path: a folder or a file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path if path.is_dir() else path.parent
        self._weights: dict[Path, dict[str, Any]] = {}
        self._configs: dict[Path, Any] = {}

    def __str__(self) -> str:
        return str(self.path)

    @cached_property
    def weight_files(self) -> list[Path]:
        """Files with weights: those directly in the folder, or the one that was named."""
        if not self.path.is_dir():
            return [self.path] if self.path.suffix.lower() in WEIGHT_FILES else []
        return sorted(one for one in self.folder.iterdir() if one.suffix.lower() in WEIGHT_FILES and one.is_file())

    def weights(self, *names: str) -> Path | None:
        """Return the weight file with one of these names, the first of them that is there."""
        by_name = {one.name: one for one in self.weight_files}
        return next((by_name[name] for name in names if name in by_name), None)

    def only_weights(self, *suffixes: str) -> Path | None:
        """Return the weight file, where there is exactly one with one of these suffixes."""
        fitting = [one for one in self.weight_files if one.suffix.lower() in suffixes]
        return fitting[0] if len(fitting) == 1 else None

    def read(self, path: Path) -> dict[str, Any]:
        """Return what is in a weight file, see `read_weights`.

        Raises:
            ValueError: if it cannot be read.
        """
        if path not in self._weights:
            self._weights[path] = read_weights(path)
        return self._weights[path]

    def tensors(self, path: Path) -> dict[str, Tensor]:
        """Return the tensors at the top of a weight file.

        Raises:
            ValueError: if it cannot be read.
        """
        return {name: value for name, value in self.read(path).items() if isinstance(value, Tensor)}

    def config(self, *names: str) -> dict[str, Any]:
        """Return the first of these JSON files that lies in the folder; empty where none does.

        Raises:
            ValueError: if it is damaged.
        """
        path = next((self.folder / name for name in names if (self.folder / name).is_file()), None)
        if path is None:
            return {}
        if path not in self._configs:
            self._configs[path] = read_json(path)
        return self._configs[path]


def read_json(path: Path) -> dict[str, Any]:
    """Read a configuration.

    Raises:
        ValueError: if it is no JSON object, or unbelievably large.
    """
    if path.stat().st_size > LARGEST_CONFIG:
        raise ValueError(f"{path} has {path.stat().st_size} bytes: expected a configuration, which has thousands")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged or cut off: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}: expected the settings of an SAE by name")
    return content
