"""What the benchmarks tell, and the tables that they print."""

import importlib.util
import sys
from collections.abc import Sequence

from benchmarks.peers import PEERS, library


class Mistake(Exception):
    """Something to tell the user in one line."""


def tell(line: str) -> None:
    """Progress, beside the results."""
    sys.stderr.write(line + "\n")


def left_out(wanted: Sequence[str]) -> list[str]:
    """Says which peers are not installed, and returns the impls that remain."""
    missing = {name: package for name, package in PEERS.items() if importlib.util.find_spec(module_of(name)) is None}
    missing = {name: package for name, package in missing.items() if any(library(impl) == name for impl in wanted)}
    if missing:
        packages = " ".join(missing.values())
        tell(f"left out, not installed: {', '.join(missing)}; to measure them too: pip install {packages}")
    return [impl for impl in wanted if library(impl) not in missing]


def module_of(peer: str) -> str:
    """The module that a peer is imported as."""
    return {"saelens": "sae_lens"}.get(peer, peer)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first and the last column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        middle = "  ".join(cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True))
        lines.append(f"  {row[0]:<{widths[0]}}  {middle}  {row[-1]}".rstrip())
    return lines
