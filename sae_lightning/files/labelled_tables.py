"""Small tables of the user that are read whole: labelled texts, facts."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from sae_lightning.files.decoding import bad_byte
from sae_lightning.files.kinds import open_file
from sae_lightning.files.row import Row
from sae_lightning.files.saved_dataset import saved_files
from sae_lightning.files.table import TableFile
from sae_lightning.files.unpacking import DamageError, is_damage

_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow")
_EXPECTED = "a .csv or .jsonl file, or JSON, Parquet or Arrow"


def find_tables(argument: str, path: str) -> list[TableFile]:
    """Return the tables that a path stands for.

    Args:
        argument: its name, for messages.
        path: a file, or a folder of them.

    Raises:
        ValueError: if there are none.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise ValueError(f"{argument}={path}: does not exist; expected {_EXPECTED}, or a folder of them")
    files = [place]
    if place.is_dir():
        files = [*(saved_files(place) or (file for file in sorted(place.iterdir()) if _is_named_as_table(file)))]
        if not files:
            raise ValueError(f"{argument}={path}: the folder has no .csv or .jsonl files; expected {_EXPECTED}")
    tables = []
    for file in files:
        table = open_file(file)
        if not isinstance(table, TableFile):
            raise ValueError(f"{argument}={path}: {file} is neither; expected {_EXPECTED}, or a folder of them")
        tables.append(table)
    return tables


def read_rows(table: TableFile, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Yield the rows of a table.

    Args:
        table: the file.
        columns: those that are wanted. Default: all.

    Raises:
        ValueError: for the first that cannot be read, naming file and line.
    """
    number = 0
    try:
        for row in table.rows(columns):
            number = row.number
            if row.problem:
                raise DamageError(f"{table.unit} {number}: {row.problem}")
            yield row
    except UnicodeDecodeError as error:
        raise ValueError(f"{bad_byte(table.path, table.encoding)}; convert the file to UTF-8") from error
    except Exception as error:
        if not is_damage(error):
            raise
        after = "" if isinstance(error, DamageError) else f" after {table.unit} {number}"
        raise ValueError(f"{table.path}: cannot be read{after} ({error})") from error


def _is_named_as_table(path: Path) -> bool:
    return not path.name.startswith(".") and path.is_file() and {*map(str.lower, path.suffixes)} & {*_SUFFIXES} != set()
