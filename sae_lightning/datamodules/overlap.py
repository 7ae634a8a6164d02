"""Held-out text that is training text as well."""

import filecmp
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np

_WINDOW = 100
"""Characters, any run of spaces counted as one, that are found again."""
_STEP = 5 * _WINDOW  # between the beginnings of two windows of held-out text
_MAX_WINDOWS = 4000
_CHARACTERS_AT_ONCE = 1 << 18  # what the arrays of a step hold stays in the cache of a core
_MULTIPLIER = 6_364_136_223_846_793_005  # odd, as what has an inverse modulo 2**64 must be; from Knuth's MMIX
_INVERSE = pow(_MULTIPLIER, -1, 1 << 64)
_LONGEST = 2 * max(_CHARACTERS_AT_ONCE, _MAX_WINDOWS * _WINDOW)
_TABLE_BITS = 20


def check_files_apart(paths: Sequence[Path], heldout: Sequence[Path]) -> None:
    """Refuse held-out files that are files of the training text, under whatever name.

    Raises:
        ValueError: naming the first of them.
    """
    of_size: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        of_size[path.stat().st_size].append(path)
    for path in heldout:
        for other in of_size[path.stat().st_size]:
            is_same = path.samefile(other)
            if is_same or filecmp.cmp(path, other, shallow=False):
                what = "a file of paths" if is_same else f"a copy of {other}, a file of paths"
                raise ValueError(
                    f"heldout: {path} is {what}: an SAE would be judged on the text it was trained on; give other "
                    "files, or leave heldout out and one document in heldout_every is held out"
                )


def shared_share(train: Iterable[str], heldout: Iterable[str], max_characters: int) -> tuple[float, bool]:
    """Return the share of the held-out text that is in the training text word for word.

    Windows of 100 characters, one in 500 of the held-out text, are looked for at every place of the training text, by
    their hashes: they are found however the text was cut into documents.

    Args:
        train: training documents.
        heldout: held-out documents.
        max_characters: characters of training text that are looked at.

    Returns:
        The share, and whether that was all of the training text.
    """
    windows = _windows(heldout)
    if not len(windows):
        return 0.0, True
    may_be_there = np.zeros(1 << _TABLE_BITS, dtype=bool)  # most places are ruled out by one look
    may_be_there[windows >> np.uint64(64 - _TABLE_BITS)] = True
    is_shared = np.zeros(len(windows), dtype=bool)
    n_read = 0
    for text in _joined(train):
        if n_read >= max_characters:
            return float(is_shared.mean()), False
        n_read += len(text)
        hashes = _hashes(text)
        hashes = hashes[may_be_there[hashes >> np.uint64(64 - _TABLE_BITS)]]
        place = np.searchsorted(windows, hashes).clip(max=len(windows) - 1)
        is_shared[place[windows[place] == hashes]] = True
    return float(is_shared.mean()), True


def _windows(documents: Iterable[str]) -> np.ndarray:
    """Return the hashes of windows from the beginning of each document and every `_STEP` characters on."""
    windows: list[str] = []
    for document in documents:
        text = _normal(document)
        windows += [text[begin : begin + _WINDOW] for begin in range(0, len(text) - _WINDOW + 1, _STEP)]
        if len(windows) >= _MAX_WINDOWS:
            break
    return np.unique(_hashes("".join(windows[:_MAX_WINDOWS]))[::_WINDOW])


def _joined(documents: Iterable[str]) -> Iterator[str]:
    """Yield documents together, so that short ones are not looked at one by one."""
    parts: list[str] = []
    length = 0
    for document in documents:
        for begin in range(0, len(document), _CHARACTERS_AT_ONCE):
            parts.append(document[max(0, begin - _WINDOW) : begin + _CHARACTERS_AT_ONCE])
            length += len(parts[-1])
            if length >= _CHARACTERS_AT_ONCE:
                yield _normal("\n".join(parts))
                parts, length = [], 0
    yield _normal("\n".join(parts))


def _normal(text: str) -> str:
    return " ".join(text.split())


def _hashes(text: str) -> np.ndarray:
    """Return a hash of the window at every place of a text, polynomials modulo 2**64 (Karp and Rabin 1987)."""
    letters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    if len(letters) < _WINDOW:
        return np.zeros(0, dtype=np.uint64)
    sums = np.concatenate([np.zeros(1, np.uint64), (letters * _powers(_MULTIPLIER)[: len(letters)]).cumsum()])
    return (sums[_WINDOW:] - sums[:-_WINDOW]) * _powers(_INVERSE)[: len(letters) - _WINDOW + 1]


@cache
def _powers(base: int) -> np.ndarray:
    return np.full(_LONGEST, base, dtype=np.uint64).cumprod()
