"""Paths, patterns and folders -> files."""

import glob
from collections.abc import Iterator
from pathlib import Path

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from sae_lightning.files.saved_dataset import saved_files, saved_splits

_GIVE = "give a file, a folder or a pattern such as books/*.txt"


def find_files(argument: str, patterns: str | list[str]) -> list[Path]:
    """Return the files that paths or patterns stand for, each once.

    A path that exists is taken as it is, also where it has the letters of a pattern. A folder stands for all files in
    it and below it, hidden ones left out, in the order of their names; one that `datasets` wrote with `save_to_disk`
    for its rows. Empty files are left out with a warning.

    Args:
        argument: what messages call the paths.
        patterns: a path or pattern, or a list of them.

    Raises:
        ValueError: if there is nothing to read.
    """
    listed = [patterns] if isinstance(patterns, str) else list(patterns)
    if not listed:
        raise ValueError(f"{argument}={patterns}: expected at least one file")
    files: dict[Path, Path] = {}  # by where they really are
    for pattern in listed:
        given = [path for match in _matches(argument, pattern) for path in _files_at(argument, match)]
        if not given:
            raise ValueError(f"{argument}={pattern}: the folder holds no files")
        whole = [path for path in given if path.stat().st_size]
        if not whole:
            what = f"{given[0]} is empty" if len(given) == 1 else f"all {len(given)} files are empty"
            raise ValueError(f"{argument}={pattern}: {what}")
        if n := len(given) - len(whole):
            empty = next(path for path in given if path not in {*whole})
            rank_zero_warn(f"{argument}={pattern}: {n} of {len(given)} files are empty and left out, such as {empty}")
        known = [path for path in whole if path.resolve() in files]
        if known:
            rank_zero_warn(
                f"{argument}={pattern}: {len(known)} of its files are given twice, such as {known[0]}; each is read "
                "once"
            )
        files |= {real: path for path in whole if (real := path.resolve()) not in files}
    return list(files.values())


def check_there(option: str, patterns: str | list[str]) -> None:
    """Refuse paths that are not there in the words of the option that gave them, before a class names its argument.

    Raises:
        ValueError: if there is no file or folder, and nothing matches it as a pattern.
    """
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        _matches(option, pattern)


def _matches(argument: str, pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if path.exists():
        return [path]
    if not glob.has_magic(pattern):
        raise ValueError(f"{argument}={pattern}: there is no such file or folder; {_GIVE}")
    paths = list(map(Path, sorted(glob.glob(str(path), recursive=True))))
    if not paths:
        raise ValueError(f"{argument}={pattern}: there is no such file, and nothing matches it as a pattern; {_GIVE}")
    # A pattern such as ** also matches the folders around its files.
    around = {folder for path in paths for folder in path.parents}
    return [path for path in paths if path not in around or path.is_file()]


def _files_at(argument: str, path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from _files_in(argument, path, frozenset())
    elif path.is_file():
        yield path
    else:
        raise ValueError(f"{argument}={path}: it is no file that can be read twice; save it in a file first")


def _files_in(argument: str, folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    """Yield the files of a folder and those below it; a link to a folder around it is not followed."""
    if folder.resolve() in above:
        return
    if (names := saved_splits(folder)) is not None:
        if len(names) > 1:
            raise ValueError(
                f"{argument}={folder}: it holds a dataset of the splits {', '.join(names)}; give one of them, for "
                f"example {folder / names[0]}"
            )
        yield from _files_in(argument, folder / names[0], above)
        return
    if (files := saved_files(folder)) is not None:
        yield from files
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _files_in(argument, path, above | {folder.resolve()})
        elif path.is_file():
            yield path
