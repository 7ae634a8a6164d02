"""Facts about entities, such as cities and people: their tables, and the sentences and prompts that state them.

The patterns of an entity's kind turn a row of its table into text. Training and held-out text share entities, not
patterns, so a model that completes a held-out prompt knows the fact and not only the sentence.
"""

import csv
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice, zip_longest
from pathlib import Path

from sae_lightning import shipped
from sae_lightning.pocket.city_templates import CITIES
from sae_lightning.pocket.fact_templates import ASIDE, CARRIERS, EntityKind, choose, fill
from sae_lightning.pocket.library import Split
from sae_lightning.pocket.person_templates import PEOPLE

KINDS = (CITIES, PEOPLE)
"""The kinds of entities that there are patterns for."""


@dataclass(frozen=True)
class Entity:
    """One row of a facts table.

    Args:
        kind: what it is.
        name: of the entity.
        values: by attribute.
    """

    kind: EntityKind
    name: str
    values: Mapping[str, str]

    def fill(self, pattern: str) -> str:
        """Put the name and the values into a pattern's slots."""
        return fill(pattern, {"entity": self.name, **self.values})


@dataclass(frozen=True)
class FactPrompt:
    """The text before an attribute of an entity, and the value that completes it after one space."""

    prompt: str
    entity: str
    attribute: str
    answer: str

    @property
    def entity_end(self) -> int:
        """Offset in the prompt of the first character after the entity's name."""
        return self.prompt.index(self.entity) + len(self.entity)


def read_facts(path: Path | str, kinds: Sequence[EntityKind] = KINDS) -> list[Entity]:
    """Read a facts table, whose first column is the kind of its entities.

    Args:
        path: the table.
        kinds: that it may be of.

    Raises:
        ValueError: If the header, a cell or the number of cells is wrong, or an entity is listed twice.
    """
    entities: dict[str, Entity] = {}
    with Path(shipped.located(str(path))).open(encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream)
        header = next(reader, [])
        kind = next((kind for kind in kinds if kind.columns == header), None)
        if kind is None:
            known = " or ".join(",".join(kind.columns) for kind in kinds)
            raise ValueError(f"{path}, line 1: expected the columns {known}, found {','.join(header)}")
        for row in reader:
            place = f"{path}, line {reader.line_num}"
            if len(row) > len(header):
                raise ValueError(f"{place}: {len(row)} cells for {len(header)} columns")
            for column, cell in zip_longest(header, row, fillvalue=""):
                if not cell.strip() or cell != cell.strip():
                    raise ValueError(f"{place}, column {column}: the cell is empty or has blanks around it")
            name, *values = row
            if name in entities:
                raise ValueError(f"{place}, column {kind.name}: {name} is listed twice")
            entities[name] = Entity(kind, name, dict(zip(kind.attributes, values, strict=True)))
    return list(entities.values())


def check_facts_files(**paths: str) -> None:
    """Raise a `ValueError` if there is no facts table at one of the paths, which are named as the arguments are."""
    for name, path in paths.items():
        if not Path(shipped.located(path)).is_file():
            raise ValueError(
                f"{name}={path}: there is no such file; give facts.csv (cities) or people.csv, which lie in the folder "
                "of the pocket language model"
            )


def fact_sentences(entities: Sequence[Entity], split: Split, seed: int) -> Iterator[str]:
    """Yield one sentence for each entity and attribute, in an order and wording drawn from the seed."""
    rng = random.Random(f"{split} sentences {seed}")
    pairs = [(entity, attribute) for entity in entities for attribute in entity.kind.attributes]
    rng.shuffle(pairs)
    for entity, attribute in pairs:
        pattern = choose(rng.choice(entity.kind.templates[split][attribute]), rng)
        if split == "train" and rng.random() < 0.15:
            pattern = pattern.replace("{entity} ", "{entity}" + choose(ASIDE, rng) + " ")
        # Only a plain statement can follow a carrier such as "Remember that".
        if split == "train" and rng.random() < 0.25 and re.fullmatch(r"[^:?]+\.", pattern):
            pattern = choose(rng.choice(CARRIERS), rng) + pattern[0].lower() + pattern[1:]
        yield entity.fill(pattern)


def fact_prompts(entities: Sequence[Entity], split: Split) -> list[FactPrompt]:
    """List every prompt that ends right before an attribute, for each pattern of the split and each entity."""
    prompts = []
    for kind in KINDS:
        of_kind = [entity for entity in entities if entity.kind == kind]
        for attribute in kind.attributes:
            for pattern in kind.templates[split][attribute]:
                match = re.search(r" (\{\w+\})\.?$", pattern)
                if match is None or match[1] == "{entity}":
                    continue
                start = choose(pattern[: match.start()], random.Random(pattern))
                prompts += [
                    FactPrompt(entity.fill(start), entity.name, attribute, entity.fill(match[1])) for entity in of_kind
                ]
    return prompts


def fact_documents(entities: Sequence[Entity], split: Split, seed: int) -> Iterator[str]:
    """Yield short paragraphs of sentences without end; training also sees whole descriptions of single entities."""
    rng = random.Random(f"{split} documents {seed}")
    for turn in count():
        sentences = fact_sentences(entities, split, seed * 1000 + turn)
        while paragraph := list(islice(sentences, rng.randint(1, 8))):
            if split == "train" and rng.random() < 0.5:
                entity = rng.choice(entities)
                whole = choose(rng.choice(entity.kind.paragraphs), rng)
                yield entity.fill(whole) if rng.random() < 0.7 else _record(entity, rng)
            yield rng.choice((" ", "\n")).join(paragraph)


def _record(entity: Entity, rng: random.Random) -> str:
    """Write a row as data: JSON, a call of a constructor, or a list of fields."""
    kind = entity.kind
    cells = {kind.name: entity.name, **entity.values}
    names = [kind.name, *rng.sample(kind.attributes, len(kind.attributes))]
    style = rng.choice(('"{}": "{}"', "{}={!r}", "{}: {}"))
    text = ", ".join(style.format(name, cells[name]) for name in names)
    return f"{{{text}}}" if style.startswith('"') else f"{kind.name.capitalize()}({text})" if "=" in style else text
