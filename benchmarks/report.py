"""Notes, errors and tables of the benchmarks."""

import importlib.util
import sys
from collections.abc import Sequence

from benchmarks.peers import PEERS, library


class BenchmarkError(Exception):
    """An error that is printed in one line, without a traceback."""


def print_note(line: str) -> None:
    """Print a line of progress or a warning to stderr, apart from the results on stdout."""
    sys.stderr.write(line + "\n")


def installed(impls: Sequence[str]) -> list[str]:
    """Return the impls whose libraries are installed, and print which libraries are not."""
    missing = {name: package for name, package in PEERS.items() if importlib.util.find_spec(module_of(name)) is None}
    missing = {name: package for name, package in missing.items() if any(library(impl) == name for impl in impls)}
    if missing:
        packages = " ".join(missing.values())
        print_note(f"left out, not installed: {', '.join(missing)}; to measure them too: pip install {packages}")
    return [impl for impl in impls if library(impl) not in missing]


def module_of(peer: str) -> str:
    """Return the name of the module that a peer is imported as."""
    return {"saelens": "sae_lens"}.get(peer, peer)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay out the lines of a table: the first and the last column aligned left, the others right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        middle = "  ".join(cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True))
        lines.append(f"  {row[0]:<{widths[0]}}  {middle}  {row[-1]}".rstrip())
    return lines
