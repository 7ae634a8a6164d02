"""The line that says what the program is doing: it moves at the bottom of a terminal, and what stays stands above it.

Whatever takes long calls `LINE.show`; nobody has to know who looks. Off a terminal, where no line can move, it is
printed every half minute; in a notebook it is an output of its own, which is empty in the end. Nothing is shown until a
command, or `train`, asks for it, and then on the first rank alone.
"""

import shutil
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

NARROWEST, WIDEST = 80, 132
"""Characters in a line, at least and at most, as the terminal has it."""
_BETWEEN_MOVES, _BETWEEN_LINES = 0.2, 30.0


def width() -> int:
    """Return how many characters a line may have."""
    return min(max(shutil.get_terminal_size((NARROWEST, 24)).columns, NARROWEST), WIDEST)


def wrapped(text: str, indent: int = 0) -> str:
    """Wrap text to the width of the terminal, each of its lines by itself; those that follow are indented."""
    lines = (
        textwrap.fill(line, width(), subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
        for line in text.splitlines()
    )
    return "\n".join(lines)


def duration(seconds: float | int) -> str:
    """Return a time as a clock shows it.

    >>> duration(77), duration(7 * 3600 + 65)
    ('1:17', '7:01:05')
    """
    return tqdm.format_interval(max(0, round(seconds))).removeprefix("0")


def in_bytes(n: float | int) -> str:
    """Return a number of bytes as people say it.

    >>> in_bytes(2.5e9), in_bytes(3e6)
    ('2.5 GB', '3 MB')
    """
    return f"{n / 1e9:.1f} GB" if n >= 1e8 else f"{max(1, n / 1e6):.0f} MB"


class MovingLine:
    """See the module. Text for good goes to the same stream, through `say`."""

    def __init__(self) -> None:
        self._is_on = False
        self._length = 0
        self._moved_at = 0.0
        self._output: Any = None  # of the cell of a notebook

    @contextmanager
    def on(self) -> Iterator[None]:
        """Show the line within."""
        before, self._is_on = self._is_on, True
        if not before:
            self._output = None
            self._moved_at = 0.0 if self.moves else time.monotonic()
        try:
            yield
        finally:
            self.clear()
            self._is_on = before

    @property
    def moves(self) -> bool:
        """Whether the line can move: on a terminal, and in a notebook."""
        return self._stream.isatty() or _is_notebook()

    @property
    def _stream(self) -> Any:  # noqa: ANN401 - a notebook's is none of io
        return sys.stdout if _is_notebook() else sys.stderr  # a notebook shows stderr as an error

    @property
    def is_due(self) -> bool:
        """Whether `show` would show anything now."""
        between = _BETWEEN_MOVES if self.moves else _BETWEEN_LINES
        return self._is_on and time.monotonic() - self._moved_at >= between

    def show(self, what: str, done: int = 0, total: int = 0, text: str = "") -> None:
        """Say what is being done, and how far it is.

        Args:
            what: a few words.
            done: of `total`.
            total: 0 where it is not known.
            text: what else there is to say.
        """
        if not self.is_due:
            return
        self._moved_at = time.monotonic()
        if self.moves:
            line = _with_bar(what, done, total, text, width() - 1, "utf" in (self._stream.encoding or "").lower())
            self._move(line)
        else:
            share = f" {min(done / total, 1.0):.0%}" if total else ""
            self._write(f"{what}{share} {text}".rstrip() + "\n")

    def clear(self) -> None:
        """Take the line away, so that other text can stand in its place."""
        if self._length:
            self._move("")
            if not _is_notebook():
                self._write("\r")

    def say(self, text: str) -> None:
        """Print lines that stay."""
        self.clear()
        self._write(text + "\n")

    def _move(self, line: str) -> None:
        """Put a line in the place of the one that is shown."""
        if not _is_notebook():
            self._write("\r" + line.ljust(self._length))
        elif self._output is None:
            from IPython.display import display

            self._output = display({"text/plain": line}, raw=True, display_id=True)
        else:
            # As HTML nothing is nothing; as text it is an empty box.
            self._output.update({"text/plain": line} if line else {"text/plain": "", "text/html": ""}, raw=True)
        self._length = len(line)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _with_bar(what: str, done: int, total: int, text: str, columns: int, has_blocks: bool) -> str:
    """Lay out a line with a bar that takes what the words leave.

    >>> _with_bar("training", 1, 4, "1:17 left", 40, False)
    'training  25% |###5          | 1:17 left'
    """
    if not total:
        return f"{what} ... {text}".rstrip()[:columns]
    layout = f"{what} {min(done / total, 1.0):4.0%} |{{bar}}| {text}".lstrip()
    return str(tqdm.format_meter(min(done, total), total, 0, columns, bar_format=layout, ascii=not has_blocks)).rstrip()


def _is_notebook() -> bool:
    return type(sys.stdout).__module__.startswith("ipykernel")


LINE = MovingLine()
"""The line of this process."""


@contextmanager
def without_bars() -> Iterator[None]:
    """Leave out the bars of loading weights, which takes seconds; those of downloads, which take minutes, stay."""
    import huggingface_hub.utils as hub
    import transformers.utils.logging as transformers

    downloads_are_shown = not hub.are_progress_bars_disabled()
    bars_are_shown = transformers.is_progress_bar_enabled()
    transformers.disable_progress_bar()
    if downloads_are_shown:
        hub.enable_progress_bars()
    try:
        yield
    finally:
        if bars_are_shown:
            transformers.enable_progress_bar()
