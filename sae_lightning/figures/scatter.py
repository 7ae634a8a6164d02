"""`Scatter`: points, which are not joined."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from typing_extensions import override

from sae_lightning.figures.chart import Table
from sae_lightning.figures.lines import Lines, Series, look_of
from sae_lightning.figures.look import PAPER
from sae_lightning.members import Style

_MANY = 300
"""Points from which on they are small and let others shine through."""


@dataclass(frozen=True)
class Scatter(Lines):
    """Points.

    Args:
        y_names: what y = 0, 1, ... stand for; empty for numbers.
        numbers: a number for each of the series, written into its marks; empty for none.
        linear_below: y is logarithmic on both sides of 0, and linear between this and its negative; None: everywhere.
    """

    y_names: Sequence[str] = field(default=(), kw_only=True)
    numbers: Sequence[int] = field(default=(), kw_only=True)
    linear_below: float | None = field(default=None, kw_only=True)

    @property
    @override
    def height(self) -> int:
        row = 14 * (1 + max((name.count("\n") for name in self.y_names), default=0)) + 6
        return 50 + row * len(self.y_names) if self.y_names else super().height

    @property
    @override
    def alt_text(self) -> str:
        return super().alt_text if not self.y_names else "; ".join(map(" ".join, self.table.rows)) + "."

    @property
    @override
    def table(self) -> Table:
        if not self.y_names:
            return super().table
        rows = [
            (y, [" ".join(self.y_names[y].split()), series.text, f"{x:.4g}"])
            for series in self.series
            for x, y in zip(series.x, map(int, series.y), strict=True)
        ]
        rows.sort(key=lambda row: -row[0])  # from the top
        return Table(self.title, ["", "", self.x or "value"], [cells for _, cells in rows])

    @override
    def draw(self, axes: Axes, styles: Mapping[str, Style]) -> None:
        super().draw(axes, styles)
        for number, series in zip(self.numbers, self.series, strict=bool(self.numbers)):
            for place in zip(series.x, series.y, strict=True):
                axes.annotate(str(number), place, ha="center", va="center_baseline", fontsize=7, zorder=2)  # as marks
        if self.y_names:
            axes.set_yticks(range(len(self.y_names)), self.y_names)
            axes.set_ylim(-0.7, len(self.y_names) - 0.3)
            axes.margins(x=0.15)
        if self.linear_below is not None:
            axes.set_yscale("symlog", linthresh=self.linear_below)
            axes.yaxis.set_major_formatter("{x:g}")  # not as powers of ten, which would be formulas

    @override
    def draw_series(self, axes: Axes, series: Series, style: Style) -> None:
        look = look_of(series, style) | {"linestyle": "none", "markersize": 7}
        if self.numbers:
            look |= {"markerfacecolor": PAPER, "markeredgecolor": style.colour}
            look |= {"markeredgewidth": 1.8, "markersize": 12}
        elif sum(len(each.x) for each in self.series) > _MANY:
            look |= {"markersize": 3, "alpha": 0.6, "markeredgewidth": 0}
        axes.plot(series.x, series.y, **look)
