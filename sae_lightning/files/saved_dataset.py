"""Datasets that `datasets` wrote with `save_to_disk`, and all others."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def saved_splits(folder: Path) -> Sequence[str] | None:
    """Return the names of the splits that a folder of `save_to_disk` has; None where it holds something else."""
    file = folder / "dataset_dict.json"
    return list(json.loads(file.read_text(encoding="utf-8"))["splits"]) if file.is_file() else None


def saved_files(folder: Path) -> Sequence[Path] | None:
    """Return the Arrow files of one dataset of `save_to_disk` in their order; None where a folder holds another."""
    file = folder / "state.json"
    if not file.is_file() or not (folder / "dataset_info.json").is_file():
        return None
    return [folder / part["filename"] for part in json.loads(file.read_text(encoding="utf-8"))["_data_files"]]


def load_split(dataset: str, name: str | None, split: str, streaming: bool = False) -> Any:
    """Load a split of a dataset with `datasets`, also one that `save_to_disk` wrote.

    Args:
        dataset: name on the hub, or a local folder.
        name: configuration of the dataset.
        split: the split; what `save_to_disk` wrote of a single split is that split, whatever its name.
        streaming: read rows when they are asked for; without effect for what `save_to_disk` wrote.

    Raises:
        ValueError: if a saved dataset has no such split; and whatever `datasets` raises.
    """
    import datasets

    folder = Path(dataset).expanduser()
    splits = saved_splits(folder)
    if splits is not None:
        if split not in splits:
            raise ValueError(f"it has no split {split}; expected one of {', '.join(splits)}")
        return datasets.load_from_disk(str(folder))[split]
    if saved_files(folder) is not None:
        return datasets.load_from_disk(str(folder))
    return datasets.load_dataset(dataset, name, split=split, streaming=streaming)
