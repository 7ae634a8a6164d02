"""Numbers are refused where they are given: out of range, not whole, not finite, or too large for the machine.

Comparing a number with its limits is not enough: every comparison with NaN is false, and an infinite weight, a fraction
of a latent or a seed beyond 64 bits pass `value < 0`. All checks of arguments go through here, and all of them name the
argument, what was given and what was expected.
"""

from numbers import Integral, Real
from typing import Any, TypeGuard

LARGEST_SEED = 2**32 - 1
"""What numpy and Lightning take, and small enough that seeds which are derived from it fit 64 bits."""
LARGEST_WHOLE = 2**63 - 1
"""Largest count that torch can hold."""
LARGEST_NUMBER = 3.4028234663852886e38
"""Largest float32: what tensors make of a larger one is infinite."""


def check_whole(least: int, most: int = LARGEST_WHOLE, /, hint: str = "", **numbers: Any) -> None:
    """Check that numbers are whole and within limits.

    Args:
        least: the smallest that is accepted.
        most: the largest that is accepted.
        hint: what to add to the message after a comma, such as an example.
        numbers: by the name that the user gave them.

    Raises:
        ValueError: names the first that is not.

    >>> check_whole(1, k=0)
    Traceback (most recent call last):
    ValueError: k=0: expected a whole number, 1 or more
    """
    expected = f"a whole number, {least} or more" if most == LARGEST_WHOLE else f"a whole number, {least} to {most}"
    for name, value in numbers.items():
        if not _is_number(value, Integral) or not least <= value <= most:
            too_large = " (this one does not fit 64 bits)" if _is_beyond(value, LARGEST_WHOLE) else ""
            raise _error(name, value, expected + too_large, hint)


def check_seed(**seeds: Any) -> None:
    """Check that seeds are whole numbers from 0 to 2^32 - 1.

    Raises:
        ValueError: names the first that is not.
    """
    check_whole(0, LARGEST_SEED, **seeds)


def check_at_least(least: int | float, /, hint: str = "", **numbers: Any) -> None:
    """Check that numbers are finite, and this or more; arguments and errors as those of `check_whole`.

    >>> check_at_least(0, lr=float("nan"))
    Traceback (most recent call last):
    ValueError: lr=nan: expected a finite number, 0 or more
    """
    for name, value in numbers.items():
        if not (is_finite(value) and value >= least):
            raise _error(name, value, f"a finite number, {least:g} or more", hint)


def check_above(least: int | float, /, hint: str = "", **numbers: Any) -> None:
    """Check that numbers are finite, and larger than this; arguments and errors as those of `check_whole`."""
    for name, value in numbers.items():
        if not (is_finite(value) and value > least):
            raise _error(name, value, f"a finite number above {least:g}", hint)


def check_between(least: int | float, most: int | float, /, hint: str = "", **numbers: Any) -> None:
    """Check that numbers are in the closed interval; arguments and errors as those of `check_whole`."""
    for name, value in numbers.items():
        if not (is_finite(value) and least <= value <= most):
            raise _error(name, value, f"a number from {least:g} to {most:g}", hint)


def check_inside(above: int | float, below: int | float, /, hint: str = "", **numbers: Any) -> None:
    """Check that numbers are in the open interval; arguments and errors as those of `check_whole`."""
    for name, value in numbers.items():
        if not (is_finite(value) and above < value < below):
            raise _error(name, value, f"a number above {above:g} and below {below:g}", hint)


def check_share(hint: str = "", **numbers: Any) -> None:
    """Check that numbers are above 0 and at most 1; arguments and errors as those of `check_whole`."""
    for name, value in numbers.items():
        if not (is_finite(value) and 0 < value <= 1):
            raise _error(name, value, "a number above 0 and up to 1", hint)


def check_kind(kind: type | tuple[type, ...], expected: str, /, **values: Any) -> None:
    """Check what values are: a caller in Python may pass anything.

    Args:
        kind: class, or classes, of which one is accepted.
        expected: what that is, in words, with an example.
        values: by the name that the user gave them.

    Raises:
        ValueError: names the first that is something else.

    >>> check_kind(list, "a list of seeds, such as [0, 1]", seeds=3)
    Traceback (most recent call last):
    ValueError: seeds is of type int: expected a list of seeds, such as [0, 1]
    """
    for name, value in values.items():
        if not isinstance(value, kind):
            what = f"the class {value.__name__}" if isinstance(value, type) else f"of type {type(value).__name__}"
            raise ValueError(f"{name} is {what}: expected {expected}")


def is_finite(value: Any) -> TypeGuard[float]:
    """Return whether this is a number that float32 can hold."""
    return _is_number(value) and not _is_beyond(value, LARGEST_NUMBER)


def _is_number(value: Any, kind: type = Real) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_beyond(value: Any, most: int | float) -> bool:
    return _is_number(value) and not abs(value) <= most  # so is NaN, of which every comparison is false


def _error(name: str, value: Any, expected: str, hint: str) -> ValueError:
    return ValueError(f"{name}={value}: expected {expected}" + (f", {hint}" if hint else ""))
