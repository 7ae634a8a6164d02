"""Tables in .csv files, with a header, and .jsonl files: labelled texts, facts."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

_SUFFIXES = (".csv", ".jsonl")
_LONGEST_CELL = 2**27  # characters; by default `csv` refuses texts of more than 2**17


def find_files(argument: str, path: str) -> list[Path]:
    """Return the files that a path stands for.

    Args:
        argument: its name, for messages.
        path: a file, or a folder of them.

    Raises:
        ValueError: if there are none.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        files = sorted(file for file in place.iterdir() if file.suffix in _SUFFIXES)
        if not files:
            raise ValueError(f"{argument}={path}: the folder has no {' or '.join(_SUFFIXES)} files")
        return files
    if not place.is_file() or place.suffix not in _SUFFIXES:
        what = "is neither" if place.is_file() else "does not exist; expected"
        raise ValueError(f"{argument}={path}: {what} a {' or '.join(_SUFFIXES)} file or a folder of them")
    return [place]


def read_rows(file: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield rows of a file by column, with the number of the line on which each ends."""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        try:
            if file.suffix == ".csv":
                csv.field_size_limit(_LONGEST_CELL)
                reader = csv.DictReader(lines)
                for cells in reader:
                    yield reader.line_num, {column: cells[column] for column in reader.fieldnames or ()}
                return
            for number, line in enumerate(lines, 1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError(f"line {number}: expected one JSON object, found {type(row).__name__}")
                    yield number, row
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{file}: cannot be read ({error})") from error
