"""Labelled texts from local files."""

import random
from collections.abc import Iterator

from typing_extensions import override

from sae_lightning.checks import check_inside, check_seed
from sae_lightning.files import TableFile, column_problem
from sae_lightning.files.labelled_tables import find_tables, read_rows
from sae_lightning.probing.task import Example, ExampleSets, ProbingTask, at_most, seed_of_draw

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
        check_inside(0, 1, test_share=test_share, hint="for example 0.2")
        check_seed(seed=seed)
        self.path, self.text, self.label, self.split = path, text, label, split
        self.test_share, self.ood, self.classes, self.seed = test_share, ood, classes, seed
        self._files = find_tables("path", path)
        self._ood_files = [] if ood is None else find_tables("ood", ood)

    @override
    def load(self, n_train: int, n_test: int, draw: int = 0) -> ExampleSets:
        rows = [row for file in self._files for row in self._rows(file, self.split)]
        # Each text once: it would be on both sides, or have two labels.
        texts = {text: (label, side) for text, label, side in rows}
        if not texts:
            raise ValueError(f"path={self.path}: there are no texts" + self._of_classes())
        if self.split is None:
            order = sorted(texts)
            random.Random(seed_of_draw(str(self.seed), draw) if draw else self.seed).shuffle(order)
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
        seed = seed_of_draw(f"files {self.seed}", draw)
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
