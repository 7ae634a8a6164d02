"""Documents from local files: JSON lines with one document a line, or plain text that is cut at blank lines."""

import glob
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from typing_extensions import override

from sae_lightning.datamodules.text import SourceError, SplitText
from sae_lightning.provenance import arguments_of, describe

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}
_DAMAGE = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)
_DOCUMENT_CHARACTERS = 4000


class FileText(SplitText):
    """Documents from files: .jsonl has one on each line, others are cut at blank lines every 4000 characters or so.

    Lines of .jsonl that cannot be read are skipped, bytes of plain text that are not UTF-8 are replaced, and a packed
    file that is damaged is read up to the damage. A warning reports each of these once for a file, when its end is
    first reached. A first line that cannot be read is an error at once.

    Args:
        paths: a path or pattern such as books/*.txt, or a list of them; .gz and .xz are unpacked on the way.
        column: key of the text in a line of .jsonl.
        heldout: files of held-out documents, given like paths. Default: every heldout_every-th document of paths.
        heldout_every: one document in this many is held out, at least 2; without effect when heldout is given.
    """

    def __init__(
        self,
        paths: str | list[str],
        column: str = "text",
        heldout: str | list[str] | None = None,
        heldout_every: int = 20,
    ) -> None:
        super().__init__(heldout_every)
        self.column = column
        self.paths = _find("paths", paths)
        self.heldout_paths = None if heldout is None else _find("heldout", heldout)
        self._warned: set[tuple[Path, str]] = set()
        for path in self.paths + (self.heldout_paths or []):
            self._check_beginning(path)

    def describe(self) -> dict[str, Any]:
        """Return the files and how they are read."""
        return {"class": type(self).__name__, **arguments_of(self), "heldout": describe(self.heldout_paths)}

    @override
    def documents(self, start: int = 0) -> Iterable[str]:
        return self._read(self.paths, start)

    @override
    def train(self, start: int = 0) -> Iterator[str]:
        """Iterate over training documents, without the first `start` of them."""
        return super().train(start) if self.heldout_paths is None else self._read(self.paths, start)

    @override
    def heldout(self) -> Iterator[str]:
        """Iterate over held-out documents."""
        return super().heldout() if self.heldout_paths is None else self._read(self.heldout_paths)

    def _read(self, paths: list[Path], start: int = 0) -> Iterator[str]:
        # Which lines are documents is known only after reading them, so those before start are read as well.
        return islice(chain.from_iterable(map(self._read_file, paths)), start, None)

    def _read_file(self, path: Path) -> Iterator[str]:
        return self._jsonl(path) if _is_jsonl(path) else _pieces(self._plain(path))

    def _jsonl(self, path: Path) -> Iterator[str]:
        number, failed, first = 0, 0, ""
        for number, line in enumerate(self._lines(path), 1):
            if not line.strip():
                continue
            try:
                text = self._text(line)
            except ValueError as error:
                failed, first = failed + 1, first or f"line {number}: {error}"
            else:
                yield text
        if failed:
            self._warn_once(path, "skipped", f"skipped {failed} of {number} lines that cannot be read, first {first}")

    def _plain(self, path: Path) -> Iterator[str]:
        number, failed, first = 0, 0, 0
        for number, line in enumerate(self._lines(path), 1):
            try:
                line.encode()
            except UnicodeEncodeError:
                failed, first = failed + 1, first or number
                yield line.encode(errors="surrogateescape").decode(errors="replace")
            else:
                yield line
        if failed:
            self._warn_once(
                path, "replaced", f"replaced bytes that are not UTF-8 in {failed} of {number} lines, first line {first}"
            )

    def _lines(self, path: Path) -> Iterator[str]:
        """Yield lines, up to the damage in a damaged file."""
        number = 0
        try:
            with _open(path) as lines:
                for line in lines:
                    number += 1
                    yield line
        except _DAMAGE as error:
            self._warn_once(path, "damaged", f"damaged after line {number} ({error}); what comes after it is left out")
        except OSError as error:
            raise SourceError(f"{path}: cannot be read on after line {number} ({error})") from error

    def _text(self, line: str) -> str:
        """Return the document of a line of .jsonl.

        Raises:
            ValueError: with the reason if there is none.
        """
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"expected one JSON object ({error})") from error
        if not isinstance(row, dict) or not isinstance(row.get(self.column), str):
            columns = ", ".join(row) if isinstance(row, dict) else type(row).__name__
            raise ValueError(f"no text under column={self.column}; set column to one of: {columns}")
        try:
            (line + row[self.column]).encode()  # "\ud800" is JSON, but no text
        except UnicodeEncodeError as error:
            raise ValueError("not valid UTF-8; convert the file to UTF-8 or repair the line") from error
        return row[self.column]

    def _check_beginning(self, path: Path) -> None:
        """Raise a `ValueError` for a first line that cannot be read: it points to a wrong setting, not to damage."""
        try:
            with _open(path) as lines:
                if not _is_jsonl(path):
                    lines.read(1)
                    return
                number, line = next(((n, line) for n, line in enumerate(lines, 1) if line.strip()), (0, None))
        except _DAMAGE as error:
            raise ValueError(f"{path}: cannot be unpacked ({error}); give a file that is whole") from error
        if line is not None:
            try:
                self._text(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error

    def _warn_once(self, path: Path, kind: str, message: str) -> None:
        if (path, kind) not in self._warned:
            self._warned.add((path, kind))
            rank_zero_warn(f"{path}: {message}")


def _is_jsonl(path: Path) -> bool:
    return ".jsonl" in path.suffixes


def _open(path: Path) -> io.TextIOWrapper:
    """Open a file as text; bytes that are not UTF-8 become lone surrogates, which no valid text has."""
    opened: io.TextIOWrapper = _OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8", errors="surrogateescape")
    return opened


def _find(name: str, patterns: str | list[str]) -> list[Path]:
    """List the files that match patterns, given as the argument `name`.

    Raises:
        ValueError: if a pattern matches nothing, a folder or an empty file.
    """
    files = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        paths = list(map(Path, sorted(glob.glob(str(Path(pattern).expanduser()), recursive=True))))
        if not paths:
            raise ValueError(f"{name}={pattern}: there is no such file")
        for path in paths:
            if path.is_dir():
                raise ValueError(f"{name}={pattern}: {path} is a folder; give files, for example {path}/*.txt")
            if not path.stat().st_size:
                raise ValueError(f"{name}={pattern}: {path} is empty")
        files += paths
    if not files:
        raise ValueError(f"{name}={patterns}: expected at least one file")
    return files


def _pieces(lines: Iterable[str]) -> Iterator[str]:
    """Cut at the first blank line after `_DOCUMENT_CHARACTERS`, and without one after four times as many."""
    piece: list[str] = []
    length = 0
    for line in lines:
        piece.append(line)
        length += len(line)
        if length >= _DOCUMENT_CHARACTERS and (not line.strip() or length >= 4 * _DOCUMENT_CHARACTERS):
            yield "".join(piece)
            piece, length = [], 0
    if "".join(piece).strip():
        yield "".join(piece)
