"""Configuration files are found and looked at before they are parsed: a mistake is named with its file and line."""

import difflib
from collections.abc import Sequence
from pathlib import Path

import yaml

from sae_lightning import shipped

_OPTIONS = ("-c", "--config", "--evaluation")


def with_config_files(args: Sequence[str]) -> list[str]:
    """Return arguments in which every ``--config`` has the path of a file that can be read and holds settings.

    So has ``--evaluation``. A configuration that comes with the package may be given by its name.

    Args:
        args: what follows the word on the command line.

    Raises:
        ValueError: names the first that does not, and where.
    """
    found: list[str] = []
    for i, value in enumerate(args):
        before = args[i - 1] if i else ""
        option, equals, name = value.partition("=")
        if equals and option in _OPTIONS:
            found.append(f"{option}={_checked(option, name)}")
        else:
            found.append(_checked("--config" if before == "-c" else before, value) if before in _OPTIONS else value)
    return found


def _checked(option: str, name: str) -> str:
    if name.lstrip().startswith("{") or "\n" in name:
        return name  # settings, and not the name of a file
    path = Path(located := shipped.configuration(name, option)).expanduser()
    if path.is_dir():
        raise ValueError(f"{option} {name} is a folder; give the file in it, such as {path / 'config.yaml'}")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ValueError(f"{option} {name}: there is no such file{_near(path)}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise ValueError(f"{option} {name} cannot be read: {reason}; expected YAML") from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{option} {name}: {_where(error)}") from error
    if content is None:
        raise ValueError(f"{option} {name} is empty; expected settings, such as model: and data:, see configs/")
    if not isinstance(content, dict):
        raise ValueError(
            f"{option} {name}: it holds {type(content).__name__}, no settings by name; expected those of configs/, or "
            "config.yaml of a run"
        )
    return located


def _near(path: Path) -> str:
    """Say what could have been meant: files of the folder, or for a lone name configurations of the package."""
    if path.parent == Path() and not path.suffix:
        names = {full.partition("/")[2] for full in shipped.configurations()}
        near = difflib.get_close_matches(path.name, names, n=3)
        return f", nor a configuration of that name{'; near are ' + ', '.join(near) if near else ''} (sae list configs)"
    near = sorted(other.name for other in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
    return f"; in its folder are {', '.join(near[:5])}" if near else ""


def _where(error: yaml.YAMLError) -> str:
    """Describe a mistake in YAML by its line, its column and what is wrong."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    tab = " (YAML is indented with spaces, not tabs)" if "\\t" in problem else ""
    return f"{place}{' '.join(problem.split())}{tab}; it is damaged or cut off, or no YAML"
