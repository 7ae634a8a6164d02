"""Prompts about facts of one's own, from a table."""

import random
from collections.abc import Iterator, Mapping

from typing_extensions import override

from sae_lightning.causal.prompts import EntityPrompt, EntityPrompts, Split
from sae_lightning.checks import check_inside, check_seed
from sae_lightning.files import TableFile
from sae_lightning.files.labelled_tables import find_tables, read_rows

_PLACE = "{}"
_NO_SPACE_AFTER = ('"', "'", "(", " ", "\n")


class FactFile(EntityPrompts):
    """Prompts about facts of your own: a table with an entity in each row, and wordings of the question.

    The table is .csv with a header, .jsonl, JSON, Parquet or Arrow, such as cities.csv. Its rows about {} are wordings,
    which end right before the value:

        entity,country,language
        {},{} is a city in the country of,Most people in {} speak
        {},The country of {} is,The language of {} is
        Paris,France,French
        Osaka,Japan,Japanese

    With prompts: {class_path: FactFile, init_args: {path: cities.csv}} that is all. For a table without such rows the
    wordings are given apart:

        prompts:
          class_path: FactFile
          init_args:
            path: cities.csv
            entity: city
            wordings:
              country: ["{} is a city in the country of", "The country of {} is"]
              language: ["Most people in {} speak", "The language of {} is"]

    A share of the entities, drawn at random, is for testing, and of an attribute with several wordings each third one
    too: masks are trained on the others. Of every attribute the model must complete 16 prompts of each part correctly,
    so a table of a few dozen entities is the least. A row with an empty cell has no prompts about that attribute.

    Args:
        path: a table, or a folder of them.
        wordings: by attribute, which is a column of the table; {} stands for the entity. Two attributes or more.
            Default: those in the table.
        entity: column with the name of the entity.
        split: column that says train or test of each entity. Default: a random split.
        test_share: part of the entities that the random split takes for testing, between 0 and 1.
        seed: of the random split.
    """

    def __init__(
        self,
        path: str,
        wordings: dict[str, list[str]] | None = None,
        entity: str = "entity",
        split: str | None = None,
        test_share: float = 1 / 3,
        seed: int = 0,
    ) -> None:
        check_inside(0, 1, test_share=test_share, hint="for example 0.33")
        check_seed(seed=seed)
        self.path, self.wordings, self.entity, self.split = path, wordings, entity, split
        self.test_share, self.seed = test_share, seed
        tables = find_tables("path", path)
        self._wordings = self._wordings_of(tables) if wordings is None else wordings
        _check_wordings(self._wordings)
        self._table = self._read(tables)
        shuffled = sorted(self._table)
        random.Random(seed).shuffle(shuffled)
        self._tested = set(shuffled[: round(test_share * len(shuffled))])

    @override
    def prompts(self, split: Split) -> list[EntityPrompt]:
        """Return every wording of the part with every entity of it that has a value."""
        entities = [entity for entity in self._table if self._split_of(entity) == split]
        return [
            prompt
            for attribute, wordings in self._wordings.items()
            for wording in _of_split(wordings, split)
            for prompt in self._prompts(attribute, wording, entities)
        ]

    def _prompts(self, attribute: str, wording: str, entities: list[str]) -> Iterator[EntityPrompt]:
        before, after = wording.split(_PLACE)
        space = "" if wording.endswith(_NO_SPACE_AFTER) else " "
        for entity in entities:
            if value := self._table[entity][attribute]:
                yield EntityPrompt(before + entity + after, entity, len(before + entity), attribute, space + value)

    def _split_of(self, entity: str) -> str:
        if self.split is not None:
            return self._table[entity][self.split]
        return "test" if entity in self._tested else "train"

    def _wordings_of(self, tables: list[TableFile]) -> dict[str, list[str]]:
        """Return the wordings in the rows about {}, by attribute."""
        wordings: dict[str, list[str]] = {}
        for file in tables:
            for row in read_rows(file):
                if row.cells.get(self.entity) == _PLACE:
                    for column, value in row.cells.items():
                        if column not in (self.entity, self.split) and value:
                            wordings.setdefault(column, []).append(str(value).strip())
        if not wordings:
            raise ValueError(
                f"path={self.path}: there is no row with {_PLACE} under entity={self.entity}, whose other cells are "
                "wordings; add such rows, or give wordings"
            )
        return wordings

    def _read(self, tables: list[TableFile]) -> dict[str, Mapping[str, str]]:
        """Return cells by entity and column."""
        columns = [self.entity, *self._wordings, *([self.split] if self.split else [])]
        table: dict[str, Mapping[str, str]] = {}
        for file in tables:
            for row in read_rows(file, columns):
                place = f"{file.path}, {file.unit} {row.number}"
                if missing := [column for column in columns if column not in row.cells]:
                    raise ValueError(
                        f"{place}: there is no column {missing[0]!r}; the columns are {', '.join(row.cells)}"
                    )
                values = {column: row.cells[column] for column in columns}
                cells = {column: "" if value is None else str(value).strip() for column, value in values.items()}
                if (name := cells[self.entity]) == _PLACE:
                    continue
                if not name:
                    raise ValueError(f"{place}: nothing under entity={self.entity}")
                if name in table:
                    raise ValueError(f"{place}: {name!r} is there twice; give each entity one row")
                if self.split and cells[self.split] not in ("train", "test"):
                    raise ValueError(f"{place}: {self.split}={cells[self.split]!r}: expected train or test")
                table[name] = cells
        return table


def _check_wordings(wordings: Mapping[str, list[str]]) -> None:
    if len(wordings) < 2:
        raise ValueError(
            f"wordings={wordings}: expected two attributes or more: an edit of one must leave another alone"
        )
    for attribute, texts in wordings.items():
        if not texts:
            raise ValueError(f"wordings: {attribute} has none; give one or more, or leave it out")
        for text in texts:
            if text.count(_PLACE) != 1:
                raise ValueError(f"wordings: {attribute}: expected {_PLACE} once, for the entity, in {text!r}")


def _of_split(wordings: list[str], split: Split) -> list[str]:
    """Return the wordings of a part: each third one is for testing; one alone, or one of two, is for both or either."""
    test = wordings[2::3] or wordings[1:2] or wordings
    return test if split == "test" else [wording for wording in wordings if wording not in test] or wordings
