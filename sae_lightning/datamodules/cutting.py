"""Documents out of running text, and pieces out of documents."""

import re
from collections.abc import Iterable, Iterator, Sequence

from sae_lightning.files.plain import LONGEST_LINE

DOCUMENT_CHARACTERS = 4000
_ENOUGH = 1_000_000
"""Characters of a part of the text that are enough, however large the other part is."""


def documents_of_lines(lines: Iterable[str]) -> Iterator[str]:
    """Cut at the first blank line after `DOCUMENT_CHARACTERS`, and without one after four times as many.

    A line that was too long to be read at once is cut at spaces.
    """
    piece: list[str] = []
    length, is_part = 0, False
    for line in lines:
        is_long = is_part  # the end of a long line
        is_part = len(line) == LONGEST_LINE and not line.endswith("\n")
        is_long |= is_part
        for part in cut_at_spaces(line, DOCUMENT_CHARACTERS) if is_long else (line,):
            piece.append(part)
            length += len(part)
            if length >= DOCUMENT_CHARACTERS and (is_long or not part.strip() or length >= 4 * DOCUMENT_CHARACTERS):
                yield "".join(piece)
                piece, length = [], 0
    if "".join(piece).strip():
        yield "".join(piece)


def cut_at_spaces(text: str, size: int) -> Iterator[str]:
    """Cut a text into pieces of `size` characters and what is left of the word there, at most twice as many.

    >>> list(cut_at_spaces("the cat sat on a mat", 5))
    ['the cat', ' sat on', ' a mat']
    """
    return (match[0] for match in re.finditer(rf"(?s:.{{1,{size}}})\S{{0,{size}}}", text))


def first_round(documents: Iterable[str], heldout_every: int) -> list[str]:
    """Return the first `heldout_every` documents, or fewer where these have enough text for both parts."""
    beginning: list[str] = []
    rest = 0
    for document in documents:
        rest += len(document) if beginning else 0
        beginning.append(document)
        if len(beginning) == heldout_every or min(len(beginning[0]), rest) >= _ENOUGH:
            break
    return beginning


def piece_size(beginning: Sequence[str], heldout_every: int) -> int:
    """Return how long the pieces must be into which documents are cut; 0 where they can stay whole.

    They are cut where all together are fewer than `heldout_every`, and the first of them, which is held out, or the
    others have less than half of the share that a part should have.

    Args:
        beginning: the documents of `first_round`.
        heldout_every: one document in this many is held out.
    """
    total, heldout = sum(map(len, beginning)), len(beginning[0]) if beginning else 0
    smaller = min(heldout, total - heldout)
    if len(beginning) == heldout_every or smaller >= _ENOUGH or 2 * heldout_every * smaller >= total:
        return 0
    return min(DOCUMENT_CHARACTERS, -(-total // heldout_every))
