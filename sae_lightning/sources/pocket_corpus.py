"""Text for the pocket language model: the standard library of the running Python and a table of world facts.

The library is read from its source files, never imported: pieces of source, docstrings and the help topics of
``pydoc``. Facts become sentences through the patterns of `fact_templates`. Both sources are split into a training and
a held-out part: library files by a hash of their path, facts by the patterns that phrase them.
"""

import ast
import csv
import hashlib
import inspect
import os
import random
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cache
from itertools import count, islice, zip_longest
from pathlib import Path
from typing import Literal

from sae_lightning.sources.fact_templates import ASIDE, ATTRIBUTES, CARRIERS, PARAGRAPHS, TEMPLATES, choose, fill

Split = Literal["train", "heldout"]

_HELDOUT_IN = 20  # one library file in this many is held out
# Tests, other packages, and folders of tables or bundled wheels rather than prose and code.
_SKIPPED = {"__pycache__", "dist-packages", "encodings", "ensurepip", "idlelib", "lib2to3", "site-packages"}
_SKIPPED |= {"test", "tests", "turtledemo"}
_TOPICS = "pydoc_data/topics.py"
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_CUTS = (r"\n\s*\n(?=\S)", r"\n[^\S\n]*\n", r"\n", r"(?<=[ ,])")
_LEAST, _MOST, _WINDOW = 200, 2000, 400


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
    with Path(path).open(encoding="utf-8", newline="") as stream:
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


def fact_sentences(facts: list[Fact], split: Split, seed: int) -> Iterator[str]:
    """Yield one sentence for each city and attribute, in an order and wording drawn from the seed."""
    rng = random.Random(f"{split} sentences {seed}")
    pairs = [(fact, attribute) for fact in facts for attribute in ATTRIBUTES]
    rng.shuffle(pairs)
    for fact, attribute in pairs:
        pattern = choose(rng.choice(TEMPLATES[split][attribute]), rng)
        if split == "train" and rng.random() < 0.15:
            pattern = pattern.replace("{city} ", "{city}" + choose(ASIDE, rng) + " ")
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


def _record(fact: Fact, rng: random.Random) -> str:
    names = ["city", *rng.sample(ATTRIBUTES, len(ATTRIBUTES))]
    style = rng.choice(('"{}": "{}"', "{}={!r}", "{}: {}"))
    text = ", ".join(style.format(name, getattr(fact, name)) for name in names)
    return f"{{{text}}}" if style.startswith('"') else f"City({text})" if "=" in style else text


def _fact_documents(facts: list[Fact], split: Split, seed: int) -> Iterator[str]:
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


def _is_heldout(name: str) -> bool:
    return hashlib.sha256(name.encode()).digest()[0] % _HELDOUT_IN == 0


@cache
def library_files(split: Split) -> tuple[tuple[str, Path], ...]:
    """Name, relative to the library's folder, and path of each source file of a split; the help topics are in both."""
    root = Path(sysconfig.get_path("stdlib"))
    names = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in _SKIPPED]
        names += [(Path(folder) / name).relative_to(root).as_posix() for name in files if name.endswith(".py")]
    if not names:
        raise FileNotFoundError(f"no Python sources in {root}: the pocket corpus reads the standard library there")
    kept = [name for name in sorted(names) if name == _TOPICS or _is_heldout(name) == (split == "heldout")]
    return tuple((name, root / name) for name in kept if not name.startswith("_sysconfigdata"))


def _pieces(text: str) -> Iterator[str]:
    """Cut a text into pieces of up to some 2000 characters, before unindented lines where it can be done."""
    piece = ""
    for part in _parts(text, _CUTS):
        if piece and len(piece) + len(part) > _MOST:
            yield piece.strip("\n")
            piece = ""
        piece += part
    yield piece.strip("\n")


def _parts(text: str, cuts: tuple[str, ...]) -> Iterator[str]:
    """Split a text that is too long at the first kind of cut, and what is still too long at the next kinds."""
    if len(text) <= _MOST or not cuts:
        yield text
        return
    start = 0
    for stop in [match.end() for match in re.finditer(cuts[0], text)] + [len(text)]:
        yield from _parts(text[start:stop], cuts[1:])
        start = stop


def _file_documents(name: str, path: Path, split: Split) -> Iterator[str]:
    """Yield the pieces and docstrings of one file; a file that cannot be decoded or parsed has none."""
    try:
        source = path.read_text(encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError, RecursionError):
        return
    if name == _TOPICS:
        # Help topics are many texts in one file, so each is assigned to a split by its own name.
        table = next((node for node in ast.walk(tree) if isinstance(node, ast.Dict)), None)
        for key, text in ast.literal_eval(table).items() if table else ():
            if _is_heldout(f"{name}:{key}") == (split == "heldout"):
                yield from _pieces(text.strip("\n"))
        return
    yield from _pieces(source.strip("\n"))
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED):
            yield from _pieces(inspect.cleandoc(ast.get_docstring(node) or ""))


def _mixed(documents: Iterable[str], rng: random.Random) -> Iterator[str]:
    """Shuffle within a sliding window, so that the first document comes without reading the whole library."""
    window: list[str] = []
    for document in documents:
        if len(window) < _WINDOW:
            window.append(document)
            continue
        place = rng.randrange(_WINDOW)
        yield window[place]
        window[place] = document
    rng.shuffle(window)
    yield from window


def standard_library_documents(split: Split, seed: int = 0) -> Iterator[str]:
    """Yield pieces of source, docstrings and help topics of the running Python's standard library."""
    rng = random.Random(f"{split} library {seed}")
    files = rng.sample(library_files(split), len(library_files(split)))
    documents = (text for name, path in files for text in _file_documents(name, path, split))
    yield from _mixed((text for text in documents if len(text) >= _LEAST), rng)


class PocketCorpus:
    """The documents of one split, library and facts mixed; iterating again gives the same documents.

    Args:
        split: ``"train"`` or ``"heldout"``.
        facts_path: The facts table.
        seed: Sets the order of documents and the wording of facts.
        fact_share: Part of the characters that are about facts.
    """

    def __init__(self, split: Split, facts_path: Path | str, seed: int = 0, fact_share: float = 0.4) -> None:
        if split not in ("train", "heldout"):
            raise ValueError(f"split must be 'train' or 'heldout', not {split!r}")
        if not 0 <= fact_share < 1:
            raise ValueError(f"fact_share must be at least 0 and below 1, not {fact_share}")
        self.split: Split = split
        self.facts = read_facts(facts_path)
        self.seed, self.fact_share = seed, fact_share

    def __iter__(self) -> Iterator[str]:
        """Yield one pass over the library, with facts in between."""
        rng = random.Random(f"{self.split} mix {self.seed}")
        facts = _fact_documents(self.facts, self.split, self.seed)
        owed = 0.0
        for document in standard_library_documents(self.split, self.seed):
            yield document
            owed += len(document) * self.fact_share / (1 - self.fact_share) * rng.uniform(0.5, 1.5)
            while owed > 0:
                yield (paragraph := next(facts))
                owed -= len(paragraph)
