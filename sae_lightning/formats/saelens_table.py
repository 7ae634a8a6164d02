"""SAELens' public table: which release and id is which folder of which repository. SAELens itself is not imported."""

import difflib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

_FILE = "pretrained_saes.yaml"
_N_NEAREST = 5


@dataclass(frozen=True)
class Entry:
    """A folder or a file of a repository.

    Args:
        repository: owner and name.
        path: in it.
    """

    repository: str
    path: str


def in_table(name: str, ways: str) -> Entry:
    """Return what `RELEASE/ID` names.

    Args:
        name: release and id with a slash between; ids have slashes too.
        ways: what could have been meant, for messages.

    Raises:
        ValueError: if SAELens is not installed, or has no such release or id.
    """
    file = table_file()
    release, _, own = name.partition("/")
    if file is None or not own or not release.strip("."):
        raise ValueError(f"{name} does not exist: expected {ways}")
    table = _read(file)
    if release not in table:
        raise ValueError(
            f"{name} does not exist, and SAELens' table has no release {release}{_nearest(release, list(table))}; "
            f"expected {ways}"
        )
    paths = {str(one["id"]): str(one["path"]) for one in table[release]["saes"]}
    if own not in paths:
        raise ValueError(f"SAELens' release {release} has no {own}{_nearest(own, list(paths))}")
    return Entry(table[release]["repo_id"], paths[own].strip("/"))


def table_file() -> Path | None:
    """Return the file of the table; None where SAELens is not installed."""
    spec = find_spec("sae_lens")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / _FILE
    return file if file.is_file() else None


@cache
def _read(file: Path) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in Python alone 40,000 lines take half a minute
    with file.open(encoding="utf-8") as text:
        table: dict[str, Any] = yaml.load(text, Loader=loader)
    return table


def _nearest(name: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=_N_NEAREST, cutoff=0.5)
    if nearest:
        return f": did you mean {' or '.join(nearest)}?"
    return f": it has {', '.join(known[:_N_NEAREST])}" + (" and more" if len(known) > _N_NEAREST else "")
