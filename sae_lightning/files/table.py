"""`TableFile`: a file of rows, and what is wrong with a column."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sae_lightning.files.row import Row

_TYPES = {str: "text", bool: "true or false", int: "numbers", float: "numbers", list: "lists", dict: "objects"}
_LONGEST_NAME, _MOST_NAMES = 40, 20


class TableFile(ABC):
    """A file with rows of named cells.

    Args:
        path: the file.
        encoding: of its text, where it has no byte order mark.

    Attributes:
        unit: what the numbers of its rows count, line or row.
    """

    unit = "row"

    def __init__(self, path: Path, encoding: str) -> None:
        self.path, self.encoding = path, encoding

    @abstractmethod
    def rows(self, columns: Sequence[str] | None = None) -> Iterator[Row]:
        """Yield the rows in their order, those that cannot be read as well.

        Args:
            columns: the columns that are wanted, where leaving out others saves work. Default: all.

        Raises:
            DamageError: or another error for which `is_damage` is true, where the file cannot be read any further.
        """


def column_problem(rows: Iterable[Row], argument: str, column: str) -> str:
    """Say why a column of a table cannot be read as text; "" where its first value is text.

    Args:
        rows: the first of the table; those that cannot be read do not matter.
        argument: option that names the column.
        column: its name.
    """
    seen: dict[str, Any] = {}  # first value of each column that is not null
    n = 0
    for row in rows:
        if row.problem:
            continue
        n += 1
        for name, value in row.cells.items():
            if seen.get(name) is None:
                seen[name] = value
        if isinstance(seen.get(column), str):
            return ""
    if column not in seen:
        problem = f"no text under {argument}={column}"
    elif seen[column] is None:
        problem = f"nothing but null under {argument}={column} in the first {n} rows"
    else:
        kind, example = _kind(seen[column]), str(seen[column])
        problem = f"{argument}={column} holds {kind}, such as {_short(example)}, and no text"
    names = [_short(name) for name, value in seen.items() if isinstance(value, str) and name != column]
    if names:
        return f"{problem}; set {argument} to one of: {', '.join(names[:_MOST_NAMES])}" + _more(names)
    others = [f"{_short(name)} ({_kind(value)})" for name, value in seen.items() if name != column]
    return f"{problem}, nor in any other column: {', '.join(others[:_MOST_NAMES]) or 'there is none'}" + _more(others)


def _kind(value: object) -> str:
    return "null" if value is None else _TYPES.get(type(value), type(value).__name__)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 3] + "..."


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
