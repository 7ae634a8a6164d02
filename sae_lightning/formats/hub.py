"""Where the files of an SAE are: a path, a repository of a hub, or an entry of SAELens' public table."""

from pathlib import Path


def local(where: Path | str) -> Path:
    """Return the path of the files, fetched if need be.

    Raises:
        ValueError: if there is nothing of this name.
    """
    path = Path(where)
    if path.exists():
        return path
    raise ValueError(f"{where} does not exist")
