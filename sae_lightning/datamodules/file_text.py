"""Documents from local files: JSON lines with one document a line, or plain text that is cut at blank lines."""

import glob
import gzip
import json
import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path

from typing_extensions import override

from sae_lightning.datamodules.text import SplitText

_OPENERS = {".gz": gzip.open, ".xz": lzma.open}
_DOCUMENT_CHARACTERS = 4000


class FileText(SplitText):
    """Documents from files: .jsonl has one on each line, others are cut at blank lines every 4000 characters or so.

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

    @override
    def documents(self) -> Iterable[str]:
        return self._read(self.paths)

    @override
    def train(self) -> Iterator[str]:
        """Training documents."""
        return super().train() if self.heldout_paths is None else self._read(self.paths)

    @override
    def heldout(self) -> Iterator[str]:
        """Held-out documents."""
        return super().heldout() if self.heldout_paths is None else self._read(self.heldout_paths)

    def _read(self, paths: list[Path]) -> Iterator[str]:
        for path in paths:
            with _OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8", errors="replace") as lines:  # type: ignore[operator]
                is_jsonl = ".jsonl" in path.suffixes
                yield from self._jsonl(path, lines) if is_jsonl else _pieces(lines)

    def _jsonl(self, path: Path, lines: Iterable[str]) -> Iterator[str]:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: expected one JSON object ({error})") from error
            if not isinstance(row, dict) or not isinstance(row.get(self.column), str):
                found = ", ".join(row) if isinstance(row, dict) else type(row).__name__
                raise ValueError(
                    f"{path}, line {number}: no text under column={self.column}; set column to one of: {found}"
                )
            yield row[self.column]


def _find(name: str, patterns: str | list[str]) -> list[Path]:
    found = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        paths = list(map(Path, sorted(glob.glob(str(Path(pattern).expanduser()), recursive=True))))
        if not paths:
            raise ValueError(f"{name}={pattern}: there is no such file")
        for path in paths:
            if path.is_dir():
                raise ValueError(f"{name}={pattern}: {path} is a folder; give files, for example {path}/*.txt")
            if not path.stat().st_size:
                raise ValueError(f"{name}={pattern}: {path} is empty")
        found += paths
    if not found:
        raise ValueError(f"{name}={patterns}: expected at least one file")
    return found


def _pieces(lines: Iterable[str]) -> Iterator[str]:
    """Cuts at the first blank line after `_DOCUMENT_CHARACTERS`, and without one after four times as many."""
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
