"""Tasks whose labels Python's own tokenizer gives, on the held-out part of the standard library of the running Python.

Files are cut at line starts into texts of some 400 characters, which the pocket language model reads whole in a context
of 128 tokens. Two thirds of the texts of modules at the top level of the library are for training, one third is test;
out of distribution are modules inside packages, of which training sees none.
"""

import io
import keyword
import tokenize
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from re import finditer

from typing_extensions import override

from sae_lightning.pocket.library import library_files
from sae_lightning.probing.task import Example, ExampleSets, ProbingTask, at_most, seed_of_draw

_WINDOW = 400  # characters
_TEST_EVERY = 3  # one window in this many is for testing
_MAX_DEPTH = 3
_N_PACKAGES = 5
_PROSE = ("comment", "docstring")
_BETWEEN_STATEMENTS = (tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT)


@dataclass(frozen=True)
class Word:
    """A word of source code: a token, or for comments, docstrings and strings a word in it.

    Args:
        start: first character.
        end: the one after the last.
        kind: keyword, name, number, operator, string, docstring or comment.
        depth: number of indentations around it.
    """

    start: int
    end: int
    kind: str
    depth: int


@dataclass(frozen=True)
class Window:
    """Some lines of a file.

    Args:
        name: of the file, relative to the library.
        number: of the window in the file.
        text: the lines.
        words: that begin and end in it, counted from its first character.
    """

    name: str
    number: int
    text: str
    words: tuple[Word, ...]

    def side(self, draw: int = 0) -> str:
        """Return the set that it belongs to in a draw: train, test or ood."""
        return "ood" if "/" in self.name else self.split(draw)

    def split(self, draw: int = 0) -> str:
        """Return train or test; another draw tests another third of the windows, up to the third."""
        return "test" if (self.number + draw) % _TEST_EVERY == 0 else "train"

    def example(self, word: Word, label: str) -> Example:
        """Return one of its words as an example."""
        unit, document = self.text[word.start : word.end], f"{self.name} {self.number}"
        return Example(self.text, label, unit, document, (word.start, word.end))


def words(source: str) -> Iterator[Word]:
    """Yield the words of a file.

    Raises:
        SyntaxError, tokenize.TokenError: if it is not Python.
    """
    lines = [0]
    for line in source.split("\n"):
        lines.append(lines[-1] + len(line) + 1)
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    depth, begins_statement = 0, True
    for token, following in pairwise(tokens):
        depth += (token.type == tokenize.INDENT) - (token.type == tokenize.DEDENT)
        start, end = (lines[row - 1] + column for row, column in (token.start, token.end))
        # A string that is a whole statement documents what it stands in.
        stands_alone = begins_statement and following.type in (tokenize.NEWLINE, tokenize.ENDMARKER)
        if kind := kind_of(token, stands_alone):
            spans = [(start, end)]
            if kind in (*_PROSE, "string"):
                spans = [(start + word.start(), start + word.end()) for word in finditer(r"\w+", source[start:end])]
            yield from (Word(*span, kind, depth) for span in spans)
        if token.type not in _BETWEEN_STATEMENTS:
            begins_statement = token.type == tokenize.NEWLINE


def kind_of(token: tokenize.TokenInfo, stands_alone: bool) -> str | None:
    """Return the class of a token; None for layout."""
    name = tokenize.tok_name[token.type]
    if name == "NAME":
        return "keyword" if keyword.iskeyword(token.string) else "name"
    if name == "STRING" and stands_alone:
        return "docstring"
    if name == "STRING" or name.startswith(("FSTRING", "TSTRING")):
        return "string"
    return {"NUMBER": "number", "COMMENT": "comment", "OP": "operator"}.get(name)


def windows_of(name: str, source: str) -> Iterator[Window]:
    """Cut a file at line starts."""
    all_words = list(words(source))
    first_characters = [word.start for word in all_words]
    starts, end = [0], 0
    for line in source.splitlines(keepends=True):
        if end + len(line) - starts[-1] > _WINDOW and end > starts[-1]:
            starts.append(end)
        end += len(line)
    for number, (begin, end) in enumerate(pairwise([*starts, len(source)])):
        begun = all_words[bisect_left(first_characters, begin) : bisect_left(first_characters, end)]
        within = (
            Word(word.start - begin, word.end - begin, word.kind, word.depth) for word in begun if word.end <= end
        )
        if source[begin:end].strip():
            yield Window(name, number, source[begin:end], tuple(within))


@cache
def library_windows() -> tuple[Window, ...]:
    """Return the windows of all held-out files but the help topics."""
    windows: list[Window] = []
    for name, path in library_files("heldout"):
        if not name.startswith("pydoc_data/"):
            try:
                windows += windows_of(name, path.read_text(encoding="utf-8"))
            except (OSError, ValueError, SyntaxError, tokenize.TokenError):
                continue  # the corpus leaves such a file out too
    return tuple(windows)


class PythonTokens(ProbingTask):
    """Is a token a keyword, name, number, operator, or in a string, docstring or comment? Read at the token itself."""

    @override
    def load(self, n_train: int, n_test: int, draw: int = 0) -> ExampleSets:
        return _by_side(
            [
                (window.side(draw), window.example(word, word.kind))
                for window in library_windows()
                for word in window.words
            ],
            n_train,
            n_test,
            draw,
        )


class PythonIndentation(ProbingTask):
    """How many indentations stand around a name or keyword: 0, 1, 2, or 3 and more? Read at the token itself."""

    @override
    def load(self, n_train: int, n_test: int, draw: int = 0) -> ExampleSets:
        return _by_side(
            [
                (window.side(draw), window.example(word, str(min(word.depth, _MAX_DEPTH))))
                for window in library_windows()
                for word in window.words
                if word.kind in ("keyword", "name")
            ],
            n_train,
            n_test,
            draw,
        )


class PythonPackage(ProbingTask):
    """Which package or top-level module is a text from, of the five with most held-out text? Tokens are pooled.

    Training and test texts are code; out of distribution are those that are mostly comments and docstrings.
    """

    @override
    def load(self, n_train: int, n_test: int, draw: int = 0) -> ExampleSets:
        windows = [(window.name.partition("/")[0].removesuffix(".py"), window) for window in library_windows()]
        largest = [package for package, _ in Counter(package for package, _ in windows).most_common(_N_PACKAGES)]
        examples = []
        for package, window in windows:
            if package in largest:
                n_prose = sum(word.kind in _PROSE for word in window.words)
                side = "ood" if 2 * n_prose > len(window.words) else window.split(draw)
                examples.append((side, Example.whole(window.text, package)))
        return _by_side(examples, n_train, n_test, draw)


def _by_side(examples: list[tuple[str, Example]], n_train: int, n_test: int, draw: int) -> ExampleSets:
    limits = {"train": n_train, "test": n_test, "ood": n_test}
    return ExampleSets(
        *(
            at_most([example for name, example in examples if name == side], n, seed_of_draw(side, draw))
            for side, n in limits.items()
        )
    )
