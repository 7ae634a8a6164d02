"""World facts about cities: the table, and the sentences and prompts that state them.

The patterns of `fact_templates` turn a row of the table into text. Training and held-out text share cities, not
patterns, so a model that completes a held-out prompt knows the fact and not only the sentence.
"""

import csv
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import count, islice, zip_longest
from pathlib import Path

from sae_lightning import shipped
from sae_lightning.pocket.fact_templates import ASIDE, ATTRIBUTES, CARRIERS, PARAGRAPHS, TEMPLATES, choose, fill
from sae_lightning.pocket.library import Split


@dataclass(frozen=True)
class Fact:
    """One row of the facts table."""

    city: str
    country: str
    continent: str
    language: str
    currency: str


@dataclass(frozen=True)
class FactPrompt:
    """The text before an attribute of a city, and the attribute that completes it after one space."""

    prompt: str
    city: str
    attribute: str
    answer: str

    @property
    def city_end(self) -> int:
        """Offset in the prompt of the first character after the city's name."""
        return self.prompt.index(self.city) + len(self.city)


def read_facts(path: Path | str) -> list[Fact]:
    """Read the facts table.

    Raises:
        ValueError: If the header, a cell or the number of cells is wrong, or a city is listed twice.
    """
    columns = [field.name for field in fields(Fact)]
    facts: dict[str, Fact] = {}
    with Path(shipped.located(str(path))).open(encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream)
        if (header := next(reader, [])) != columns:
            raise ValueError(f"{path}, line 1: expected the columns {','.join(columns)}, found {','.join(header)}")
        for row in reader:
            place = f"{path}, line {reader.line_num}"
            if len(row) > len(columns):
                raise ValueError(f"{place}: {len(row)} cells for {len(columns)} columns")
            for column, cell in zip_longest(columns, row, fillvalue=""):
                if not cell.strip() or cell != cell.strip():
                    raise ValueError(f"{place}, column {column}: the cell is empty or has blanks around it")
            if row[0] in facts:
                raise ValueError(f"{place}, column city: {row[0]} is listed twice")
            facts[row[0]] = Fact(*row)
    return list(facts.values())


def check_facts_file(facts: str) -> None:
    """Raise a `ValueError` if there is no table of facts at this path."""
    if not Path(shipped.located(facts)).is_file():
        raise ValueError(f"facts={facts}: there is no such file; give facts.csv of the pocket language model's folder")


def fact_sentences(facts: list[Fact], split: Split, seed: int) -> Iterator[str]:
    """Yield one sentence for each city and attribute, in an order and wording drawn from the seed."""
    rng = random.Random(f"{split} sentences {seed}")
    pairs = [(fact, attribute) for fact in facts for attribute in ATTRIBUTES]
    rng.shuffle(pairs)
    for fact, attribute in pairs:
        pattern = choose(rng.choice(TEMPLATES[split][attribute]), rng)
        if split == "train" and rng.random() < 0.15:
            pattern = pattern.replace("{city} ", "{city}" + choose(ASIDE, rng) + " ")
        # Only a plain statement can follow a carrier such as "Remember that".
        if split == "train" and rng.random() < 0.25 and re.fullmatch(r"[^:?]+\.", pattern):
            pattern = choose(rng.choice(CARRIERS), rng) + pattern[0].lower() + pattern[1:]
        yield fill(pattern, vars(fact))


def fact_prompts(facts: list[Fact], split: Split) -> list[FactPrompt]:
    """List every prompt that ends right before an attribute, for each pattern of the split and each city."""
    prompts = []
    for attribute in ATTRIBUTES:
        for pattern in TEMPLATES[split][attribute]:
            match = re.search(r" (\{\w+\})\.?$", pattern)
            if match is None or match[1] == "{city}":
                continue
            start = choose(pattern[: match.start()], random.Random(pattern))
            for fact in facts:
                prompt, answer = fill(start, vars(fact)), fill(match[1], vars(fact))
                prompts.append(FactPrompt(prompt, fact.city, attribute, answer))
    return prompts


def fact_documents(facts: list[Fact], split: Split, seed: int) -> Iterator[str]:
    """Yield short paragraphs of sentences without end; training also sees whole descriptions of single cities."""
    rng = random.Random(f"{split} documents {seed}")
    for turn in count():
        sentences = fact_sentences(facts, split, seed * 1000 + turn)
        while paragraph := list(islice(sentences, rng.randint(1, 8))):
            if split == "train" and rng.random() < 0.25:
                fact = rng.choice(facts)
                whole = choose(rng.choice(PARAGRAPHS), rng)
                yield fill(whole, vars(fact)) if rng.random() < 0.7 else _record(fact, rng)
            yield rng.choice((" ", "\n")).join(paragraph)


def _record(fact: Fact, rng: random.Random) -> str:
    """Write a row as data: JSON, a call of a constructor, or a list of fields."""
    names = ["city", *rng.sample(ATTRIBUTES, len(ATTRIBUTES))]
    style = rng.choice(('"{}": "{}"', "{}={!r}", "{}: {}"))
    text = ", ".join(style.format(name, getattr(fact, name)) for name in names)
    return f"{{{text}}}" if style.startswith('"') else f"City({text})" if "=" in style else text
