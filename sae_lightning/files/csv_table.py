"""Rows of CSV, separated by comma, semicolon, tab or bar, with a header."""

import csv
import io
from collections.abc import Iterator, Sequence

from typing_extensions import override

from sae_lightning.files.decoding import open_text
from sae_lightning.files.row import Row
from sae_lightning.files.table import TableFile
from sae_lightning.files.unpacking import DamageError

_LONGEST_CELL = 2**31 - 1  # characters; by default `csv` refuses more than 2**17
_SEPARATORS = ",;\t|"


class CsvTable(TableFile):
    """Rows of CSV with a header; the separator is the one that gives the header most columns."""

    unit = "line"

    def columns(self) -> list[str]:
        """Return the names in the header."""
        header = next(self._lines(), (1, []))[1]
        return [name.strip() for name in header] if isinstance(header, list) else []

    @override
    def rows(self, columns: Sequence[str] | None = None) -> Iterator[Row]:
        header: list[str] | None = None
        for number, cells in self._lines():
            if isinstance(cells, csv.Error):
                yield Row(number, problem=f"not CSV ({cells}); a quote inside quotes is written twice")
            elif header is None:
                header = [name.strip() for name in cells]
            elif len(cells) > len(header):
                problem = f"{len(cells)} cells, and {len(header)} columns; put a cell with a separator in quotes"
                yield Row(number, problem=problem)
            elif cells:
                yield Row(number, {name: cells[i] if i < len(cells) else None for i, name in enumerate(header)})

    def _lines(self) -> Iterator[tuple[int, list[str] | csv.Error]]:
        """Yield the number of the line on which a row begins, and its cells or what is wrong with them."""
        csv.field_size_limit(_LONGEST_CELL)
        with open_text(self.path, self.encoding, newline="") as lines:
            first = lines.readline()
            separator = max(_SEPARATORS, key=lambda separator: len(next(csv.reader([first], delimiter=separator), [])))
            reader = csv.reader(_Again(first, lines), delimiter=separator, strict=True)
            while True:
                begin = reader.line_num + 1
                try:
                    cells: list[str] | csv.Error | None = next(reader, None)
                except csv.Error as error:
                    if "end of data" in str(error):
                        raise DamageError(f"line {begin}: a quote is opened and not closed") from error
                    cells = error
                if cells is None:
                    return
                yield begin, cells


class _Again:
    r"""The lines of a file of which the first has been read; \r\n ends a line of the file, not one of the text."""

    def __init__(self, first: str, lines: io.TextIOWrapper) -> None:
        self._first, self._lines = first, lines

    def __iter__(self) -> Iterator[str]:
        if self._first:
            yield self._first.replace("\r\n", "\n")
        for line in self._lines:
            yield line.replace("\r\n", "\n")
