"""Labelled texts from local files."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from typing_extensions import override

from sae_lightning.files import Row, TableFile, bad_byte, column_problem, is_damage, open_file
from sae_lightning.files.saved_dataset import saved_files
from sae_lightning.files.unpacking import DamageError
from sae_lightning.probing.task import Example, ExampleSets, ProbingTask, at_most

_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow")
_EXPECTED = "a .csv or .jsonl file, or JSON, Parquet or Arrow"
_MOST_NAMED = 10


class LabelledFiles(ProbingTask):
    """Texts with a label in files of CSV (with a header), JSON lines, JSON, Parquet or Arrow.

    Args:
        path: a file, or a folder of them.
        text: column of the text.
        label: column of the label.
        split: column that says train or test; rows with anything else there are left out. Default: a random split.
        test_share: part of the texts that the random split takes for test, between 0 and 1.
        ood: a file or folder of texts from elsewhere with the same columns and labels. Default: none.
        classes: labels to ask for; rows with others are left out. Default: all.
        seed: of the random split, and of the choice where there are more than enough examples.
    """

    def __init__(
        self,
        path: str,
        text: str = "text",
        label: str = "label",
        split: str | None = None,
        test_share: float = 0.2,
        ood: str | None = None,
        classes: list[str] | None = None,
        seed: int = 42,
    ) -> None:
        if not 0 < test_share < 1:
            raise ValueError(f"test_share={test_share}: expected more than 0 and less than 1, for example 0.2")
        self.path, self.text, self.label, self.split = path, text, label, split
        self.test_share, self.ood, self.classes, self.seed = test_share, ood, classes, seed
        self._files = find_tables("path", path)
        self._ood_files = [] if ood is None else find_tables("ood", ood)

    @override
    def load(self, n_train: int, n_test: int) -> ExampleSets:
        rows = [row for file in self._files for row in self._rows(file, self.split)]
        # Each text once: it would be on both sides, or have two labels.
        texts = {text: (label, side) for text, label, side in rows}
        if not texts:
            raise ValueError(f"path={self.path}: there are no texts" + self._of_classes())
        if self.split is None:
            order = sorted(texts)
            random.Random(self.seed).shuffle(order)
            n = round(len(order) * self.test_share)
            sides = {text: "test" if i < n else "train" for i, text in enumerate(order)}
        else:
            sides = {text: side for text, (_, side) in texts.items()}
            if missing := {"train", "test"} - {*sides.values()}:
                raise ValueError(
                    f"split={self.split}: no row says {' or '.join(sorted(missing))}; they say "
                    f"{', '.join(sorted({*sides.values()})[:_MOST_NAMED])}"
                )
        train, test = (
            [Example.whole(text, label) for text, (label, _) in texts.items() if sides[text] == side]
            for side in ("train", "test")
        )
        others = {text: label for file in self._ood_files for text, label, _ in self._rows(file, None)}
        ood = [Example.whole(text, label) for text, label in others.items() if text not in texts]
        seed = f"files {self.seed}"
        return ExampleSets(at_most(train, n_train, seed), at_most(test, n_test, seed), at_most(ood, n_test, seed))

    def _of_classes(self) -> str:
        return "" if self.classes is None else f" with a label that is one of classes={self.classes}"

    def _rows(self, table: TableFile, split: str | None) -> Iterator[tuple[str, str, str]]:
        """Yield text, label and side of the rows of one file that have a label to ask for."""
        columns = {"text": self.text, "label": self.label} | ({"split": split} if split else {})
        for row in read_rows(table, list(columns.values())):
            place = f"{table.path}, {table.unit} {row.number}"
            for argument, column in columns.items():
                if row.cells.get(column) is None:
                    names = ", ".join(row.cells)
                    raise ValueError(f"{place}: nothing under {argument}={column}; the columns are {names}")
            text, label = row.cells[self.text], str(row.cells[self.label])
            if not isinstance(text, str):
                raise ValueError(f"{place}: {column_problem([row], 'text', self.text)}")
            if text.strip() and (self.classes is None or label in self.classes):
                yield text, label, str(row.cells[split]) if split else ""


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


def read_rows(table: TableFile, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a table.

    Args:
        table: the file.
        columns: those that are wanted.

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
