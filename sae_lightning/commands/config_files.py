"""Configuration files are looked at before they are parsed, so that a mistake is named with its file and line."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

import yaml


def check_config_files(args: Sequence[str]) -> None:
    """Check that every file that ``--config`` names can be read and holds settings.

    Args:
        args: what follows the word on the command line.

    Raises:
        ValueError: names the first that does not, and where.
    """
    for name in _named(args):
        _check(name)


def _named(args: Sequence[str]) -> Iterator[str]:
    for option, value in zip_longest(args, args[1:], fillvalue=""):
        if option in ("-c", "--config"):
            yield value
        elif option.startswith("--config="):
            yield option.partition("=")[2]


def _check(name: str) -> None:
    if name.lstrip().startswith("{") or "\n" in name:
        return  # settings, and not the name of a file
    path = Path(name).expanduser()
    if path.is_dir():
        raise ValueError(f"--config {name} is a folder; give the file in it, such as {path / 'config.yaml'}")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        near = sorted(other.name for other in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        there = f"; in its folder are {', '.join(near[:5])}" if near else ""
        raise ValueError(f"--config {name}: there is no such file{there}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise ValueError(f"--config {name} cannot be read: {reason}; expected YAML") from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"--config {name}: {_where(error)}") from error
    if content is None:
        raise ValueError(f"--config {name} is empty; expected settings, such as model: and data:, see configs/")
    if not isinstance(content, dict):
        raise ValueError(
            f"--config {name}: it holds {type(content).__name__}, no settings by name; expected those of configs/, or "
            "config.yaml of a run"
        )


def _where(error: yaml.YAMLError) -> str:
    """Describe a mistake in YAML by its line, its column and what is wrong."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    tab = " (YAML is indented with spaces, not tabs)" if "\\t" in problem else ""
    return f"{place}{' '.join(problem.split())}{tab}; it is damaged or cut off, or no YAML"
