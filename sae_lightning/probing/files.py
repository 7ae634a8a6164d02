"""Labelled texts from local files."""

import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path

from typing_extensions import override

from sae_lightning.checks import check_inside, check_seed
from sae_lightning.probing.task import Example, ExampleSets, ProbingTask, at_most

_SUFFIXES = (".csv", ".jsonl")
_LONGEST_CELL = 2**27  # characters; by default `csv` refuses texts of more than 2**17


class LabelledFiles(ProbingTask):
    """Texts with a label in .csv (with a header) or .jsonl files.

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
        check_inside(0, 1, test_share=test_share, hint="for example 0.2")
        check_seed(seed=seed)
        self.path, self.text, self.label, self.split = path, text, label, split
        self.test_share, self.ood, self.classes, self.seed = test_share, ood, classes, seed
        self._files = find_files("path", path)
        self._ood_files = [] if ood is None else find_files("ood", ood)

    @override
    def load(self, n_train: int, n_test: int) -> ExampleSets:
        rows = [row for file in self._files for row in self._rows(file, self.split)]
        # Each text once: it would be on both sides, or have two labels.
        texts = {text: (label, side) for text, label, side in rows}
        if self.split is None:
            order = sorted(texts)
            random.Random(self.seed).shuffle(order)
            n = round(len(order) * self.test_share)
            sides = {text: "test" if i < n else "train" for i, text in enumerate(order)}
        else:
            sides = {text: side for text, (_, side) in texts.items()}
        train, test = (
            [Example.whole(text, label) for text, (label, _) in texts.items() if sides[text] == side]
            for side in ("train", "test")
        )
        others = {text: label for file in self._ood_files for text, label, _ in self._rows(file, None)}
        ood = [Example.whole(text, label) for text, label in others.items() if text not in texts]
        seed = f"files {self.seed}"
        return ExampleSets(at_most(train, n_train, seed), at_most(test, n_test, seed), at_most(ood, n_test, seed))

    def _rows(self, file: Path, split: str | None) -> Iterator[tuple[str, str, str]]:
        """Yield text, label and side of the rows of one file that have a label to ask for."""
        columns = {"text": self.text, "label": self.label} | ({"split": split} if split else {})
        for number, row in read_rows(file):
            cells = {}
            for argument, column in columns.items():
                if row.get(column) is None:
                    raise ValueError(
                        f"{file}, line {number}: nothing under {argument}={column}; the columns are {', '.join(row)}"
                    )
                cells[argument] = str(row[column])
            if cells["text"].strip() and (self.classes is None or cells["label"] in self.classes):
                yield cells["text"], cells["label"], cells.get("split", "")


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
