"""What is in a file: text, rows in one of several formats, or something that nobody can read as text."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from sae_lightning.files.arrow_tables import ArrowTable, ParquetTable
from sae_lightning.files.csv_table import CsvTable
from sae_lightning.files.decoding import encoding_of
from sae_lightning.files.foreign import foreign_kind, is_binary, wide_encoding
from sae_lightning.files.json_tables import JsonLines, JsonValues
from sae_lightning.files.plain import PlainFile
from sae_lightning.files.table import TableFile
from sae_lightning.files.unpacking import PACKED_SUFFIXES, first_bytes

_HEAD = 1 << 16
_ARROW_STREAM = b"\xff\xff\xff\xff"
_LINES, _JSON, _CSV = (".jsonl", ".ndjson"), ".json", (".csv", ".tsv")
_BINARY = (".parquet", ".arrow", ".feather")
_OBJECT = re.compile(r'\s*\{\s*(\}|"(?:[^"\\]|\\.)*"\s*:)')
_ARRAY_OF_OBJECTS = re.compile(r"\s*\[" + _OBJECT.pattern)
WHAT_IS_READ = "text, JSON lines, JSON, CSV, TSV, Parquet or Arrow, also packed as gz, bz2, xz, zst or lz4"


UserFile = PlainFile | TableFile


def open_file(path: Path, encoding: str = "utf-8") -> UserFile:
    """Find out what a file is, by its first bytes; where these do not tell, by the end of its name.

    Args:
        path: the file, which is not empty.
        encoding: of its text, where it has no byte order mark.

    Raises:
        ValueError: if it holds neither text nor rows, is not what its name says, or cannot be unpacked.
    """
    head, suffix = first_bytes(path, _HEAD), _suffix(path)
    if head.startswith(b"PAR1"):
        return ParquetTable(path, encoding)
    if head.startswith((b"ARROW1", _ARROW_STREAM)):
        return ArrowTable(path, encoding)
    marked = encoding_of(head, "")
    if not marked and (kind := foreign_kind(head)):
        raise ValueError(f"{path}: it looks like {kind}; expected {WHAT_IS_READ}")
    if suffix in _BINARY:
        raise ValueError(f"{path}: its name ends in {suffix} and its content does not begin as that of such a file")
    text = head.decode(marked or encoding, errors="ignore")
    if is_binary(text):
        if wide := wide_encoding(head):
            raise ValueError(f"{path}: it looks like text in {wide}, without a mark that says so; set encoding: {wide}")
        raise ValueError(f"{path}: it looks like binary data; expected {WHAT_IS_READ}")
    return _text_kind(text, suffix)(path, encoding)


def check_folders(argument: str, given: str | list[str], files: Sequence[UserFile]) -> None:
    """Refuse a folder of tables and other text, which may be about the tables, such as a README.

    Args:
        argument: what messages call the paths.
        given: paths and patterns of the user.
        files: what they stand for.

    Raises:
        ValueError: if a folder among them holds both.
    """
    for folder in [given] if isinstance(given, str) else given:
        root = Path(folder).expanduser()
        inside = [file for file in files if root in file.path.parents]
        tables = [file.path for file in inside if isinstance(file, TableFile)]
        if tables and (others := [file.path for file in inside if isinstance(file, PlainFile)]):
            raise ValueError(
                f"{argument}={folder}: it holds tables ({len(tables)}, such as {tables[0].name}) and other text "
                f"({len(others)}, such as {others[0].name}); give a pattern for those that are meant, for example "
                f"{folder}/**/*{tables[0].suffix}"
            )


def _text_kind(head: str, suffix: str) -> type[PlainFile] | type[TableFile]:
    if suffix in _CSV:
        return CsvTable
    if _ARRAY_OF_OBJECTS.match(head):
        return JsonValues
    if suffix in _LINES:
        return JsonLines
    if not _OBJECT.match(head):
        return JsonValues if suffix == _JSON else PlainFile
    first, _, rest = head.lstrip().partition("\n")
    try:
        json.loads(first)
    except ValueError:
        return JsonValues  # an object over several lines, or one longer than the head
    return JsonLines if rest.strip() else JsonValues


def _suffix(path: Path) -> str:
    """Return the end of a name in small letters, without the one that says how the file is packed."""
    endings = [ending.lower() for ending in path.suffixes]
    return next((ending for ending in reversed(endings) if ending not in PACKED_SUFFIXES), "")
