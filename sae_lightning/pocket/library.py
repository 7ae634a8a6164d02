"""The standard library of the running Python as text: source, docstrings and the help topics of ``pydoc``.

Files are read, never imported. A hash of a file's path decides whether it is training or held-out text.
"""

import ast
import hashlib
import inspect
import os
import random
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

Split = Literal["train", "heldout"]

_HELDOUT_EVERY = 20  # one library file in this many is held out
# Tests, other packages, and folders of tables or bundled wheels rather than prose and code.
_SKIPPED = {"__pycache__", "dist-packages", "encodings", "ensurepip", "idlelib", "lib2to3", "site-packages"}
_SKIPPED |= {"test", "tests", "turtledemo"}
_TOPICS = "pydoc_data/topics.py"
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# Where a long text is cut, best first: before an unindented line after a blank one, at blank lines, lines, words.
_CUTS = (r"\n\s*\n(?=\S)", r"\n[^\S\n]*\n", r"\n", r"(?<=[ ,])")
_MIN_CHARACTERS, _MAX_CHARACTERS = 200, 2000  # of a document
_WINDOW = 400  # documents that are shuffled together
_FILES_KEPT = 256  # of which documents stay in memory, a few MB


@cache
def library_files(split: Split) -> tuple[tuple[str, Path], ...]:
    """List the source files of a split, each with its name in the library's folder; the help topics are in both.

    Raises:
        FileNotFoundError: If the running Python has no sources.
    """
    root = Path(sysconfig.get_path("stdlib"))
    names = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in _SKIPPED]
        names += [(Path(folder) / name).relative_to(root).as_posix() for name in files if name.endswith(".py")]
    if not names:
        raise FileNotFoundError(f"no Python sources in {root}: the pocket corpus reads the standard library there")
    kept = [name for name in sorted(names) if name == _TOPICS or _is_heldout(name) == (split == "heldout")]
    return tuple((name, root / name) for name in kept if not name.startswith("_sysconfigdata"))


def standard_library_documents(split: Split, seed: int = 0) -> Iterator[str]:
    """Yield pieces of source, docstrings and help topics of the running Python's standard library."""
    rng = random.Random(f"{split} library {seed}")
    files = rng.sample(library_files(split), len(library_files(split)))
    documents = (text for name, path in files for text in _file_documents(name, path, split))
    yield from _shuffled((text for text in documents if len(text) >= _MIN_CHARACTERS), rng)


def _is_heldout(name: str) -> bool:
    return hashlib.sha256(name.encode()).digest()[0] % _HELDOUT_EVERY == 0


@lru_cache(_FILES_KEPT)
def _file_documents(name: str, path: Path, split: Split) -> tuple[str, ...]:
    """Return the pieces and docstrings of one file; a file that cannot be decoded or parsed has none.

    The beginning of the text is read several times before training (norms, calibration, the first batch), and parsing
    the files is most of that.
    """
    return tuple(_read_documents(name, path, split))


def _read_documents(name: str, path: Path, split: Split) -> Iterator[str]:
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


def _pieces(text: str) -> Iterator[str]:
    """Cut a text into pieces of at most 2000 characters, before unindented lines where possible."""
    piece = ""
    for part in _parts(text, _CUTS):
        if piece and len(piece) + len(part) > _MAX_CHARACTERS:
            yield piece.strip("\n")
            piece = ""
        piece += part
    yield piece.strip("\n")


def _parts(text: str, cuts: tuple[str, ...]) -> Iterator[str]:
    """Split a text that is too long at the first kind of cut, and what is still too long at the next kinds."""
    if len(text) <= _MAX_CHARACTERS or not cuts:
        yield text
        return
    start = 0
    for stop in [match.end() for match in re.finditer(cuts[0], text)] + [len(text)]:
        yield from _parts(text[start:stop], cuts[1:])
        start = stop


def _shuffled(documents: Iterable[str], rng: random.Random) -> Iterator[str]:
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
