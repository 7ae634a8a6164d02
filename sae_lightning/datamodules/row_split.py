"""Which rows are for training and which are held out: the last ones, those that are marked, or whole groups of rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

HELDOUT_FRACTION = 0.1
_TRAINING = frozenset({"train", "training"})
_HELD_OUT = frozenset({"validation", "valid", "val", "test", "dev", "heldout", "held_out", "held-out"})

Numbers: TypeAlias = Tensor | range
"""Numbers of rows, [n] int64; a range where they follow each other."""
Column: TypeAlias = np.ndarray
"""A value for each row, [n]."""


@dataclass(frozen=True)
class RowSplit:
    """The two sides, which have no row in common.

    Args:
        train: rows to train on.
        heldout: rows to measure on.
        said: how they came about, for messages.
    """

    train: Numbers
    heldout: Numbers
    said: str


def take(numbers: Numbers, places: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """Return the numbers of the rows at these places of a side.

    >>> take(range(90, 100), torch.tensor([0, 9]))
    tensor([90, 99])
    """
    return places + numbers.start if isinstance(numbers, range) else numbers[places]


def split_at_end(n: int, heldout_fraction: float) -> RowSplit:
    """Hold out the last rows, in one piece: neighbouring rows may be of one text.

    >>> split_at_end(1000, 0.1).heldout
    range(900, 1000)
    """
    n_train = n - round(n * heldout_fraction)
    said = f"heldout_fraction={heldout_fraction:g} of {n:,} rows leaves"
    return RowSplit(range(n_train), range(n_train, n), said)


def split_as_marked(marks: Column, name: str) -> RowSplit:
    """Hold out the rows that a column marks.

    Args:
        marks: true or 1 for a held-out row and false or 0 for one to train on; or train and validation as text.
        name: of the column, as the user gave it.

    Raises:
        ValueError: if a mark is neither.
    """
    values, inverse = np.unique(marks, return_inverse=True)
    sides = np.array([_is_heldout(value, name) for value in values.tolist()], dtype=bool)
    is_heldout = torch.from_numpy(sides[inverse.reshape(-1)])
    return RowSplit((~is_heldout).nonzero()[:, 0], is_heldout.nonzero()[:, 0], f"{name} of {len(marks):,} rows leaves")


def split_by_group(groups: Column, heldout_fraction: float, name: str) -> RowSplit:
    """Hold out whole groups, drawn at random and the same whatever the seed, of at most this share of the rows.

    At least one group is held out, and one is left to train on.

    Args:
        groups: what each row belongs to, such as the number of its text.
        heldout_fraction: share of the rows.
        name: of the column, as the user gave it.

    Raises:
        ValueError: if there is one group alone.
    """
    values, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if len(values) < 2:
        raise ValueError(f"{name}: all {len(groups):,} rows are of one group; expected two or more, such as texts")
    order = np.random.default_rng(0).permutation(len(values))
    n = int(np.searchsorted(counts[order].cumsum(), round(len(groups) * heldout_fraction), side="right"))
    chosen = np.zeros(len(values), dtype=bool)
    chosen[order[: min(max(n, 1), len(values) - 1)]] = True
    is_heldout = torch.from_numpy(chosen[inverse.reshape(-1)])
    said = f"heldout_fraction={heldout_fraction:g} of {len(groups):,} rows in {len(values):,} groups leaves"
    return RowSplit((~is_heldout).nonzero()[:, 0], is_heldout.nonzero()[:, 0], said)


def split_rows(
    n: int,
    heldout_fraction: float,
    marks: Column | None = None,
    groups: Column | None = None,
    names: Sequence[str] = ("split_key", "group_key"),
) -> RowSplit:
    """Return the split that the arguments ask for.

    Args:
        n: number of rows.
        heldout_fraction: share of the rows that is held out, where they are not marked.
        marks: see `split_as_marked`.
        groups: see `split_by_group`.
        names: of both columns, as the user gave them.

    Raises:
        ValueError: if a column cannot split the rows.
    """
    if marks is not None:
        return split_as_marked(marks, names[0])
    return split_at_end(n, heldout_fraction) if groups is None else split_by_group(groups, heldout_fraction, names[1])


def spread(name: str, values: Any, leading: Sequence[int]) -> Column:
    """Return a value for each row [n] of activations [..., d_in]; one that is for several rows is repeated.

    Args:
        name: of the values, for messages.
        values: whole numbers, truth values or text, of the leading shape of the activations or its first dimensions.
        leading: that shape.

    Raises:
        ValueError: if they are others.
    """
    column = np.asarray(values)
    if column.dtype.kind == "f" or not column.ndim or column.shape != tuple(leading[: column.ndim]):
        raise ValueError(
            f"{name} has the shape {list(column.shape)} and the type {column.dtype} beside activations "
            f"{[*leading, 'd_in']}; expected whole numbers, truth values or text, one for each of them"
        )
    by_row = column.reshape(column.shape + (1,) * (len(leading) - column.ndim))
    return np.broadcast_to(by_row, tuple(leading)).reshape(-1)


def refuse_two_splits(marks: Any, groups: Any, heldout_fraction: float, names: Sequence[str]) -> None:
    """Refuse arguments of which one would do nothing beside another.

    Raises:
        ValueError: if rows are marked, and grouped or counted, too.
    """
    if marks is not None and (groups is not None or heldout_fraction != HELDOUT_FRACTION):
        other = "heldout_fraction" if groups is None else names[1]
        raise ValueError(f"{names[0]} says of every row whether it is held out: leave out {other}")


def _is_heldout(mark: Any, name: str) -> bool:
    if isinstance(mark, bool | int) and mark in (0, 1):
        return bool(mark)
    word = mark.lower() if isinstance(mark, str) else ""
    if word in _TRAINING or word in _HELD_OUT:
        return word in _HELD_OUT
    raise ValueError(
        f"{name}: a row has the mark {mark!r}; expected train or validation, or true or 1 for a row that is held out"
    )
