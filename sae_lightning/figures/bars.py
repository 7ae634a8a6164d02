"""`Bars`: a row for each policy, from the floor to the mean over its seeds."""

import textwrap
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from matplotlib.axes import Axes
from typing_extensions import override

from sae_lightning.figures.chart import LEAST_SPAN
from sae_lightning.figures.dots import Dots, draw_mean, draw_row
from sae_lightning.figures.look import MUTED, REFERENCE
from sae_lightning.members import Style
from sae_lightning.tables import number_format

_MOST_BELOW = 0.5
"""The axis goes beyond the floor, or the best value, by this share at most of what lies between them, or of LEAST_SPAN.
"""
_METRIC_CHARACTERS = 40
"""A longer name goes on in a second line: beside another chart it would be cut."""


@dataclass(frozen=True)
class Bars(Dots):
    """A bar for each policy from the floor to its mean, with the interval of that mean by itself.

    The axis shows all from the floor to the best value, so that a difference looks as large as it is.

    Args:
        best: the best value there can be; None for that of the rows.
        references: rows that are no SAE.
        metric: name in plain words, where the title is another.
    """

    title_at: ClassVar[Literal["left", "center"]] = "center"  # names of rows leave little room to the right

    best: float | int | None = field(default=None, kw_only=True)
    references: Collection[str] = field(default=(), kw_only=True)
    metric: str = field(default="", kw_only=True)

    @property
    @override
    def policies(self) -> list[str]:
        return [row.policy for row in self.rows if row.policy not in self.references]

    @property
    @override
    def number_format(self) -> str:
        return number_format([*(row.mean for row in self.rows), self.floor], is_short=True)

    @property
    @override
    def axis_name(self) -> str:
        return f"{textwrap.fill(self.metric, _METRIC_CHARACTERS)}\n{super().axis_name}".strip()

    @property
    def start(self) -> float | int:
        """Where bars begin."""
        return 0 if self.floor is None else self.floor

    @override
    def draw(self, axes: Axes, styles: Mapping[str, Style]) -> None:
        left, right = self.limits()
        axes.axvline(self.start, color=MUTED, linestyle=(0, (5, 3)), linewidth=1.3)
        for y, row in enumerate(self.rows):
            style = REFERENCE if row.policy in self.references else styles[row.policy]
            axes.barh(y, row.mean - self.start, 0.62, self.start, color=style.colour, alpha=0.3)
            is_off = not left <= row.mean <= right
            value = f"{'beyond: ' * is_off}{row.mean:{self.number_format}}"
            draw_row(axes, y, row, style, f"{value}  {row.word}".rstrip())
            if not is_off:  # else half a mark would stand at the edge
                draw_mean(axes, y, row, style, is_whole=True)
        axes.set_xlim(left, right)
        self.draw_frame(axes)
        axes.locator_params(axis="x", nbins=3)  # names and words leave little room

    def limits(self) -> tuple[float, float]:
        """Return the ends of the axis, a little beyond what it shows."""
        shown = [value for row in self.rows for value in (row.mean, *row.seeds, *(row.interval or ()))]
        ends = (self.start, max(shown, default=1) if self.best is None else self.best)
        low, high = min(ends), max(ends)
        span = max(high - low, LEAST_SPAN)
        left = min(low, max(min(shown), low - _MOST_BELOW * span))
        right = max(high, min(max(shown), high + _MOST_BELOW * span))
        if not any(left <= row.mean <= right for row in self.rows):  # as where the floor is the best there can be
            left, right = min(low, *shown), max(high, *shown)
        return left - 0.03 * span, right + 0.03 * span
