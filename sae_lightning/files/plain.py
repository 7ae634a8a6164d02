"""`PlainFile`: a file of text without rows."""

from collections.abc import Iterator
from pathlib import Path

from sae_lightning.files.decoding import open_text

LONGEST_LINE = 1_000_000
"""Characters of a line that are read at once."""


class PlainFile:
    """A file of text.

    Args:
        path: the file.
        encoding: of its text, where it has no byte order mark.
    """

    def __init__(self, path: Path, encoding: str) -> None:
        self.path, self.encoding = path, encoding

    def lines(self, errors: str = "strict") -> Iterator[str]:
        r"""Yield lines with their end, which is always \n; a longer line than `LONGEST_LINE` comes in parts.

        Args:
            errors: what happens to bytes that are no text, as for `open`.

        Raises:
            UnicodeDecodeError: for such bytes, with errors="strict".
        """
        with open_text(self.path, self.encoding, errors) as file:
            while line := file.readline(LONGEST_LINE):
                yield line
