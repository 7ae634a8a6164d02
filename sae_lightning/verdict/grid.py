"""The step of a metric that counts: a share of 768 latents cannot show a difference of less than 1/768."""

from collections.abc import Iterable

_FINEST, _ROUNDING = 1e-4, 2e-7
"""Steps and rounding (float32) that are told apart from other numbers, as shares of the largest value."""


def grid_step(values: Iterable[float | None]) -> float:
    """Return the largest step of which all values are whole multiples; 0 where there is none, as of most metrics.

    Args:
        values: of one metric, of all SAEs, with its floor. With fewer than two that differ from 0 and from one another
            nothing can be said.

    >>> round(1 / grid_step([3 / 768, 5 / 768, 1.0]))
    768
    >>> grid_step([0.4337, 0.429997, 0.388344]), grid_step([0.0, 0.5, 0.5])
    (0.0, 0.0)
    """
    sizes = sorted({abs(value) for value in values if value})
    if len(sizes) < 2:
        return 0.0
    largest = sizes[-1]
    step = sizes[0]
    for size in sizes[1:]:
        step = _common(size, step, 4 * _ROUNDING * largest)
    counts = [size / step for size in sizes] if step > _FINEST * largest else []
    is_grid = all(abs(count - round(count)) * step < 10 * _ROUNDING * largest for count in counts)
    return step if counts and is_grid else 0.0


def _common(one: float, other: float, rounding: float) -> float:
    """Return the greatest common divisor (Euclid); a remainder as small as rounding is none."""
    while other > rounding:
        rest = one % other
        one, other = other, 0.0 if other - rest < rounding else rest
    return one
