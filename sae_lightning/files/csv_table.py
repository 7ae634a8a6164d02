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

    @override
    def rows(self, columns: Sequence[str] | None = None) -> Iterator[Row]:
        csv.field_size_limit(_LONGEST_CELL)
        with open_text(self.path, self.encoding, newline="") as lines:
            first = lines.readline()
            separator = max(_SEPARATORS, key=lambda separator: len(next(csv.reader([first], delimiter=separator), [])))
            reader = csv.reader(_Again(first, lines), delimiter=separator, strict=True)
            header: list[str] | None = None
            while True:
                begin = reader.line_num + 1
                try:
                    cells = next(reader, None)
                except csv.Error as error:
                    if "end of data" in str(error):
                        raise DamageError(f"line {begin}: a quote is opened and not closed") from error
                    yield Row(begin, problem=f"not CSV ({error}); a quote inside quotes is written twice")
                    continue
                if cells is None:
                    return
                if header is None:
                    header = [name.strip() for name in cells]
                elif cells:
                    yield _row(begin, header, cells)


class _Again:
    r"""The lines of a file of which the first has been read; \r\n ends a line of the file, not one of the text."""

    def __init__(self, first: str, lines: io.TextIOWrapper) -> None:
        self._first, self._lines = first, lines

    def __iter__(self) -> Iterator[str]:
        if self._first:
            yield self._first.replace("\r\n", "\n")
        for line in self._lines:
            yield line.replace("\r\n", "\n")


def _row(number: int, header: Sequence[str], cells: Sequence[str]) -> Row:
    if len(cells) > len(header):
        return Row(
            number, problem=f"{len(cells)} cells, and {len(header)} columns; put a cell with a separator in quotes"
        )
    return Row(number, {name: cells[i] if i < len(cells) else None for i, name in enumerate(header)})
