"""Tables as text, wide ones in parts."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from sae_lightning.moving_line import width


def lay_out(rows: Sequence[Sequence[str]], n_head: int = 1) -> str:
    """Lay out cells, the first column to the left, in parts that repeat it where the table is wider than the terminal.

    Args:
        rows: cells, the same number in each row; "-" is an empty cell.
        n_head: how many rows stand above the rule.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    parts: list[list[int]] = [[]]
    for column in range(1, len(widths)):
        if parts[-1] and sum(2 + widths[other] for other in (*parts[-1], column)) > width() - widths[0]:
            parts.append([])
        parts[-1].append(column)
    return "\n".join("\n".join(_part(rows, n_head, widths, part)) for part in parts)


def _part(rows: Sequence[Sequence[str]], n_head: int, widths: Sequence[int], columns: Sequence[int]) -> list[str]:
    """Return the lines of some columns, between rules; one of several parts leaves out rows that are empty in it."""
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(row[column].rjust(widths[column]) for column in columns)])
        for row in rows
        if len(columns) == len(widths) - 1 or any(row[column] not in ("", "-") for column in columns)
    ]
    n_head -= sum(all(row[column] in ("", "-") for column in columns) for row in rows[:n_head])
    rule = "-" * max(map(len, lines))
    return [*(line.rstrip() for line in lines[:n_head]), rule, *(line.rstrip() for line in lines[n_head:]), rule]


def number_format(values: Iterable[float | None], is_short: bool = False) -> str:
    """Return a format with four significant digits for the largest value, so that the cells of a row line up.

    Args:
        values: of a row.
        is_short: give what is below 1 a digit less, and four decimals at most.

    >>> number_format([0.5119, 0.02]), number_format([0.5119, 0.02], is_short=True), number_format([24.8])
    ('.4f', '.3f', '.2f')
    """
    largest = max((abs(value) for value in values if value is not None and math.isfinite(value)), default=0.0)
    if largest == 0:
        return ".3f" if is_short else ".4f"
    digits = 3 - math.floor(math.log10(largest))
    if is_short:
        return f".{min(digits - (largest < 1), 4) if digits > 0 else 0}f"
    return f".{max(digits, 0)}f" if digits <= 7 else ".3e"


def heads(names: Sequence[str], longest: int = 8) -> list[list[str]]:
    """Break names at underscores into lines of a head, each at most so long where that can be.

    Args:
        names: of columns; what follows a space is a line of its own.
        longest: characters in a line.

    >>> heads(["trained (a/b_0)", "soft_frozen_decoder"])
    [['trained', 'soft_'], ['(a/b_0)', 'frozen_'], ['', 'decoder']]
    """
    columns = []
    for name in names:
        policy, _, label = name.partition(" ")
        parts = textwrap.wrap(policy.replace("_", "_ "), longest + 1, break_long_words=False)
        columns.append([*(part.replace("_ ", "_") for part in parts), *([label] if label else [])])
    return [list(row) for row in zip_longest(*columns, fillvalue="")]
