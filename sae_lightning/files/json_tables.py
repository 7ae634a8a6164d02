"""Rows in JSON: one object on each line, or an array of objects, or an object of columns."""

import json
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

from typing_extensions import override

from sae_lightning.files.decoding import open_text
from sae_lightning.files.json_values import json_values
from sae_lightning.files.row import Row
from sae_lightning.files.table import TableFile

PLAIN_COLUMN = "text"
"""Name of the column of values that are text and no objects."""
_SPACE = 1000  # characters before the first that is none
_NOT_UTF8 = "not valid UTF-8; convert the file to UTF-8 or repair the line"


class JsonLines(TableFile):
    """One JSON object on each line. A line that cannot be read is a row with a problem."""

    unit = "line"

    @override
    def rows(self, columns: Sequence[str] | None = None) -> Iterator[Row]:
        # Bytes that are not UTF-8 become lone surrogates, which no valid text has: they spoil one line and not all.
        with open_text(self.path, self.encoding, "surrogateescape") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                except (json.JSONDecodeError, RecursionError) as error:
                    yield Row(number, problem=f"expected one JSON object ({error})" if _is_text(line) else _NOT_UTF8)
                else:
                    yield _row(number, value) if _is_text(line) else Row(number, problem=_NOT_UTF8)


class JsonValues(TableFile):
    """An array of JSON objects, objects one after the other, or one object that holds a table."""

    @override
    def rows(self, columns: Sequence[str] | None = None) -> Iterator[Row]:
        with open_text(self.path, self.encoding) as file:
            is_array = file.read(_SPACE).lstrip().startswith("[")
        with open_text(self.path, self.encoding) as file:  # what is packed cannot go back
            values: Iterator[Any] = json_values(file)
            if not is_array:
                first = list(islice(values, 2))
                values = chain(_rows_within(first[0], columns or ()) if len(first) == 1 else first, values)
            for number, value in enumerate(values, 1):
                yield _row(number, value)


def _row(number: int, value: Any) -> Row:
    if isinstance(value, str):
        value = {PLAIN_COLUMN: value}
    if not isinstance(value, dict):
        return Row(number, problem=f"expected one JSON object, found {type(value).__name__}")
    if not all(_is_text(cell) for cell in value.values() if isinstance(cell, str)):
        return Row(number, problem=_NOT_UTF8)  # "\ud800" is JSON, but no text
    return Row(number, value)


def _rows_within(value: Any, columns: Sequence[str]) -> list[Any]:
    """Return the rows of an object of columns, or of one that holds a table among other things; else the value."""
    if not isinstance(value, dict) or any(isinstance(value.get(name), str) for name in columns):
        return [value]
    lists = [cells for cells in value.values() if isinstance(cells, list)]
    tables = [cells for cells in lists if cells and all(isinstance(item, dict) for item in cells)]
    if len(tables) == 1:
        return tables[0]
    if lists and len(lists) == len(value) and len({*map(len, lists)}) == 1:
        return [dict(zip(value, cells, strict=True)) for cells in zip(*lists, strict=True)]
    return [value]


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
