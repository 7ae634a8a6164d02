"""Documents from local files: a row of a table is one, plain text is cut at blank lines."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from typing_extensions import override

from sae_lightning.datamodules.cutting import documents_of_lines
from sae_lightning.datamodules.overlap import check_files_apart, shared_share
from sae_lightning.datamodules.text import SourceError, SplitText
from sae_lightning.files import (
    PlainFile,
    Row,
    TableFile,
    UserFile,
    bad_byte,
    check_encoding,
    check_folders,
    column_problem,
    find_files,
    is_damage,
    open_file,
)
from sae_lightning.provenance import arguments_of, describe

_ROWS_TO_CHECK = 1000
_CHARACTERS_TO_CHECK = 32_000_000
_MENTIONED_SHARE = 0.01


class FileText(SplitText):
    """Documents from files of text, JSON lines, JSON, CSV, TSV, Parquet or Arrow, also packed as gz, bz2, xz, zst, lz4.

    The content of a file decides which of these it is, and the end of its name only where the content cannot. A row of
    a table is a document. Other text is cut at blank lines every 4000 characters or so. Text is UTF-8, or what its
    byte order mark says, or `encoding`. Rows that cannot be read and those without text are skipped, and a damaged file
    is read up to the damage; a warning reports each of these once for a file, when its end is first reached. A first
    row that cannot be read, and what is no text at all, are refused before training.

    Documents that are too few to be shared out are cut into pieces, so that one is enough.

    Args:
        paths: a file, a folder, which is read whole, a pattern such as books/*.txt, or a list of these; also a folder
            that `datasets` wrote with `save_to_disk`.
        column: column of the text in a table.
        heldout: files of held-out documents, given like paths. Default: every heldout_every-th document of paths.
        heldout_every: one document in this many is held out, at least 2; without effect when heldout is given.
        encoding: of files without a byte order mark, for example cp1252.
        encoding_errors: what happens to bytes that are no text in that encoding: strict ends the run and names the
            place; replace reads each as U+FFFD and counts.
    """

    def __init__(
        self,
        paths: str | list[str],
        column: str = "text",
        heldout: str | list[str] | None = None,
        heldout_every: int = 20,
        encoding: str = "utf-8",
        encoding_errors: Literal["strict", "replace"] = "strict",
    ) -> None:
        super().__init__(heldout_every)
        check_encoding(encoding)
        self.column, self.encoding, self.encoding_errors = column, encoding, encoding_errors
        self.paths = find_files("paths", paths)
        self.heldout_paths = None if heldout is None else find_files("heldout", heldout)
        self._warned: set[tuple[Path, str]] = set()
        self._files = self._open("paths", paths, self.paths)
        self._heldout_files = self._open("heldout", heldout, self.heldout_paths or [])
        check_files_apart(self.paths, self.heldout_paths or [])

    def describe(self) -> dict[str, Any]:
        """Return the files and how they are read."""
        return {"class": type(self).__name__, **arguments_of(self), "heldout": describe(self.heldout_paths)}

    @override
    def documents(self, start: int = 0) -> Iterable[str]:
        return self._read(self._files, start)

    @override
    def train(self, start: int = 0) -> Iterator[str]:
        """Iterate over training documents, without the first `start` of them."""
        return super().train(start) if self.heldout_paths is None else self._read(self._files, start)

    @override
    def heldout(self) -> Iterator[str]:
        """Iterate over held-out documents."""
        return super().heldout() if self.heldout_paths is None else self._read(self._heldout_files)

    @override
    def check(self) -> None:
        """Read the beginning of both parts, and say how much of the held-out text is training text as well."""
        if next(self.train(), None) is None:
            raise ValueError(f"paths: there is no text in {self.paths[0]}" + (" and others" if self.paths[1:] else ""))
        share, is_all = shared_share(self.train(), self.heldout(), _CHARACTERS_TO_CHECK)
        if share >= _MENTIONED_SHARE:
            where = "the training text" if is_all else f"the first {_CHARACTERS_TO_CHECK:,} characters of training text"
            rank_zero_warn(
                f"{share:.0%} of the held-out text is, word for word, also in {where}: what is measured on it is "
                "partly known from training; leave out repeated documents, or give other held-out files"
            )

    def _open(self, argument: str, given: str | list[str] | None, paths: Sequence[Path]) -> list[UserFile]:
        files = [open_file(path, self.encoding) for path in paths]
        check_folders(argument, given or [], files)
        for file in files:
            self._check_beginning(file)
        return files

    def _check_beginning(self, file: UserFile) -> None:
        """Raise a `ValueError` for a first row that cannot be read: it points to a wrong setting, not to damage."""
        try:
            if isinstance(file, PlainFile):
                next(file.lines(self.encoding_errors), None)
                return
            row = next(file.rows([self.column]), None)
            if row is None or isinstance(row.cells.get(self.column), str):
                return
            place = f"{file.path}, {file.unit} {row.number}"
            if row.problem:
                raise ValueError(f"{place}: {row.problem}")
            if problem := column_problem(islice(file.rows(), _ROWS_TO_CHECK), "column", self.column):
                raise ValueError(f"{place}: {problem}")
        except UnicodeDecodeError as error:
            raise ValueError(self._bad_byte(file)) from error
        except Exception as error:
            if not is_damage(error):
                raise
            raise ValueError(f"{file.path}: cannot be read ({error}); give a file that is whole") from error

    def _read(self, files: Sequence[UserFile], start: int = 0) -> Iterator[str]:
        # Which rows are documents is known only after reading them, so those before start are read as well.
        return islice(chain.from_iterable(map(self._read_file, files)), start, None)

    def _read_file(self, file: UserFile) -> Iterator[str]:
        texts = documents_of_lines(self._lines(file)) if isinstance(file, PlainFile) else self._texts(file)
        return (text.replace("\ufeff", "") for text in texts)  # byte order marks, of files that were joined to one

    def _texts(self, table: TableFile) -> Iterator[str]:
        number, failed, null, first = 0, 0, 0, ""
        try:
            for row in table.rows([self.column]):
                number, text = row.number, row.cells.get(self.column)
                if isinstance(text, str):
                    yield text
                    continue
                failed += 1
                null += self.column in row.cells and text is None
                first = first or f"{table.unit} {number}: {row.problem or self._problem(row)}"
        except Exception as error:
            self._stop(table, f"{table.unit} {number}", error)
        if failed:
            of_null = f"; {null} of them have null under column={self.column}" if null else ""
            self._warn_once(
                table.path,
                "skipped",
                f"skipped {failed} of {number} {table.unit}s that cannot be read, first {first}{of_null}",
            )

    def _problem(self, row: Row) -> str:
        is_null = self.column in row.cells and row.cells[self.column] is None
        return f"null under column={self.column}" if is_null else column_problem([row], "column", self.column)

    def _lines(self, file: PlainFile) -> Iterator[str]:
        """Yield lines, up to the damage in a damaged file."""
        number, replaced, first = 0, 0, 0
        try:
            for number, line in enumerate(file.lines(self.encoding_errors), 1):
                if self.encoding_errors == "replace" and "\ufffd" in line:
                    replaced, first = replaced + 1, first or number
                yield line
        except Exception as error:
            self._stop(file, f"line {number}", error)
        if replaced:
            name = self.encoding.upper() if self.encoding == "utf-8" else self.encoding
            self._warn_once(
                file.path,
                "replaced",
                f"replaced bytes that are not {name} in {replaced} of {number} lines, first line {first}",
            )

    def _stop(self, file: UserFile, place: str, error: Exception) -> None:
        """Warn of damage after a place; raise what is no damage."""
        if isinstance(error, UnicodeDecodeError):
            raise SourceError(self._bad_byte(file)) from error
        if is_damage(error):
            message = f"damaged after {place} ({error}); what comes after it is left out"
            self._warn_once(file.path, "damaged", message)
            return
        if isinstance(error, OSError):
            raise SourceError(f"{file.path}: cannot be read on after {place} ({error})") from error
        raise error

    def _bad_byte(self, file: UserFile) -> str:
        return (
            f"{bad_byte(file.path, self.encoding)}; give the encoding of the files, for example encoding: cp1252, or "
            "encoding_errors: replace"
        )

    def _warn_once(self, path: Path, kind: str, message: str) -> None:
        if (path, kind) not in self._warned:
            self._warned.add((path, kind))
            rank_zero_warn(f"{path}: {message}")
