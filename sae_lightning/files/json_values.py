"""JSON values one after the other, of a file that need not fit into memory; an array gives its items."""

import io
import json
import re
from collections.abc import Iterator
from typing import Any

from sae_lightning.files.unpacking import DamageError

_BLOCK = 1 << 20
_NO_SPACE = re.compile(r"\S")
_decode = json.JSONDecoder().raw_decode


def json_values(file: io.TextIOBase) -> Iterator[Any]:
    """Yield each value.

    Memory holds one value and the block around it. An array that is a value of its own gives its items.

    Raises:
        DamageError: at the first place that is not JSON.
    """
    reader = _Reader(file)
    while first := reader.peek():
        if first != "[":
            yield reader.value()
            continue
        reader.skip()
        if reader.peek() == "]":
            reader.skip()
            continue
        while True:
            reader.peek()
            yield reader.value()
            separator = reader.peek()
            reader.skip()
            if separator == "]":
                break
            if separator != ",":
                what = f"found {separator!r}" if separator else "the file ends"
                raise DamageError(f"line {reader.line}: expected , or ] after an item, {what}")


class _Reader:
    """A text that is read in blocks, and a place in it."""

    def __init__(self, file: io.TextIOBase) -> None:
        self._file, self._text, self._place, self._ended = file, "", 0, False
        self.line = 1

    def peek(self) -> str:
        """Move to the next character that is not space and return it; "" at the end."""
        while True:
            if match := _NO_SPACE.search(self._text, self._place):
                self._move(match.start())
                return match[0]
            self._move(len(self._text))
            if not self._more():
                return ""

    def skip(self) -> None:
        """Move over one character."""
        self._move(self._place + 1)

    def value(self) -> Any:
        """Read the value that begins here."""
        while True:
            try:
                value, end = _decode(self._text, self._place)
            except RecursionError as error:
                raise DamageError(f"line {self.line}: nested too deeply") from error
            except json.JSONDecodeError as error:
                # What ends with the block goes on in the next; what is wrong long before its end stays wrong.
                may_go_on = error.msg.startswith("Unterminated") or error.pos > len(self._text) - 16
                if may_go_on and self._more():
                    continue
                line = self.line + self._text.count("\n", self._place, error.pos)
                raise DamageError(f"line {line}: not JSON ({error.msg})") from error
            if end == len(self._text) and self._more():  # of 12 the 1 alone may have been read
                continue
            self._move(end)
            return value

    def _move(self, place: int) -> None:
        self.line += self._text.count("\n", self._place, place)
        self._place = place

    def _more(self) -> bool:
        """Read on, twice as much each time, so that a long value is not tried at each block."""
        if self._ended:
            return False
        block = self._file.read(max(_BLOCK, len(self._text) - self._place))
        self._text, self._place = self._text[self._place :] + block, 0
        self._ended = not block
        return not self._ended
