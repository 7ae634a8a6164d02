"""`Row`: one row of a table in a file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Args:
        number: of the row or of the line on which it begins, from 1; see `TableFile.unit`.
        cells: values by column.
        problem: why it cannot be read; "" where it can.
    """

    number: int
    cells: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
