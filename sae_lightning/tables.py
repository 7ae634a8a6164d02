"""Tables as text, wide ones in parts."""

import math
from collections.abc import Iterable, Sequence

MAX_WIDTH = 132
"""Characters in a line; a wider table is laid out in parts."""


def lay_out(rows: Sequence[Sequence[str]], n_head: int = 1) -> str:
    """Lay out cells, the first column to the left, in parts that repeat it where the table is wider than `MAX_WIDTH`.

    Args:
        rows: cells, the same number in each row; "-" is an empty cell.
        n_head: how many rows stand above the rule.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    parts: list[list[int]] = [[]]
    for column in range(1, len(widths)):
        if parts[-1] and sum(2 + widths[other] for other in (*parts[-1], column)) > MAX_WIDTH - widths[0]:
            parts.append([])
        parts[-1].append(column)
    return "\n".join("\n".join(_part(rows, n_head, widths, part)) for part in parts)


def _part(rows: Sequence[Sequence[str]], n_head: int, widths: Sequence[int], columns: Sequence[int]) -> list[str]:
    """Return the lines of some columns, between rules; one of several parts leaves out rows that are empty in it."""
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(row[column].rjust(widths[column]) for column in columns)])
        for row in rows
        if len(columns) == len(widths) - 1 or any(row[column] != "-" for column in columns)
    ]
    rule = "-" * max(map(len, lines))
    return [*(line.rstrip() for line in lines[:n_head]), rule, *(line.rstrip() for line in lines[n_head:]), rule]


def number_format(values: Iterable[float | None]) -> str:
    """Return a format with four significant digits for the largest value, so that the cells of a row line up."""
    largest = max((abs(value) for value in values if value is not None and math.isfinite(value)), default=0.0)
    if largest == 0:
        return ".4f"
    digits = 3 - math.floor(math.log10(largest))
    return f".{max(digits, 0)}f" if digits <= 7 else ".3e"
