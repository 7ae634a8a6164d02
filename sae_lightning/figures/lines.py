"""`Lines`: series of values over x, with bands where they have any."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import nan
from operator import mul
from typing import Any, ClassVar, Literal

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter
from typing_extensions import override

from sae_lightning.figures.chart import Chart, Table
from sae_lightning.figures.look import CHANCE, PAPER
from sae_lightning.members import Style, policy_label

_MOST_X_NAMES = 12


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line, or points.

    Args:
        name: a policy, or words.
        x: where it has values.
        y: the values; nan leaves a gap.
        low: lower end of a band, or of the bar of each value; empty for none.
        high: upper end.
        label: in place of the name in plain words.
        style: in place of that of the policy.
        is_listed: in legend, table and description.
    """

    name: str
    x: Sequence[float | int]
    y: Sequence[float | int]
    low: Sequence[float | int] = ()
    high: Sequence[float | int] = ()
    label: str = ""
    style: Style | None = None
    is_listed: bool = True

    @property
    def text(self) -> str:
        """Name in plain words."""
        return self.label or policy_label(self.name)


@dataclass(frozen=True)
class Guide:
    """A line across the chart, at a value to compare with.

    Args:
        value: where.
        label: in the legend; empty for none.
        of: the axis that has the value.
        style: colour and line.
    """

    value: float | int
    label: str = ""
    of: Literal["x", "y"] = "y"
    style: Style = CHANCE

    def draw(self, axes: Axes) -> None:
        """Draw it."""
        draw = axes.axvline if self.of == "x" else axes.axhline
        label = self.label or "_"  # which matplotlib leaves out of the legend
        draw(self.value, label=label, color=self.style.colour, linestyle=self.style.line, linewidth=1.2)


@dataclass(frozen=True, kw_only=True)
class Lines(Chart):
    """Lines with markers, over numbers or over names.

    Args:
        series: one or more.
        x: name of the axis.
        y: name of the axis.
        guides: lines across.
        x_names: what x = 0, 1, ... stand for; empty for numbers.
        x_on_top: name of a second x axis and the factor to its values; None for none.
        has_bars: what lies between low and high are bars, beside each other; x is then logarithmic, in even steps.
        log_x: logarithmic x.
        log_y: logarithmic y.
        percent: y are shares, shown in percent and from 0.
        y_limits: ends of the y axis; None takes those of the values.
    """

    most_marks: ClassVar[int] = 20
    """Where a series is longer, not every value has a mark, so that they do not hide the line."""

    series: Sequence[Series]
    x: str
    y: str
    guides: Sequence[Guide] = ()
    x_names: Sequence[str] = ()
    x_on_top: tuple[str, float | int] | None = None
    has_bars: bool = False
    log_x: bool = False
    log_y: bool = False
    percent: bool = False
    y_limits: tuple[float | int, float | int] | None = None

    @property
    @override
    def alt_text(self) -> str:
        return f"{self.y} over {self.x}, for {', '.join(dict.fromkeys(series.text for series in self._listed))}."

    @property
    @override
    def table(self) -> Table:
        has_bands = any(len(series.low) for series in self._listed)
        rows = []
        for series in self._listed:
            for i, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
                ends = [f"{band[i]:.4g}" if len(band) else "-" for band in (series.low, series.high)]
                name = self.x_names[int(x)] if self.x_names else f"{x:.6g}"
                rows.append([series.text, name, f"{y:.4g}", *(ends if has_bands else ())])
        return Table(self.title, ["", self.x, self.y, *(("from", "to") if has_bands else ())], rows)

    @property
    @override
    def policies(self) -> list[str]:
        return [series.name for series in self.series if series.style is None]

    @property
    def _listed(self) -> list[Series]:
        return [series for series in self.series if series.is_listed]

    @override
    def draw(self, axes: Axes, styles: Mapping[str, Style]) -> None:
        for guide in self.guides:
            guide.draw(axes)
        for place, series in enumerate(self.series):
            style = series.style or styles[series.name]
            if self.has_bars:
                series = replace(series, x=_aside(series.x, place - (len(self.series) - 1) / 2))
            self.draw_series(axes, series, style)
        axes.set(xlabel=self.x, ylabel=self.y)
        self._format_x(axes)
        if self.log_y:
            axes.set_yscale("log")
        if self.percent:
            axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
            if not self.log_y:
                _begin_at_zero(axes)
        if self.y_limits:
            axes.set_ylim(*self.y_limits)

    def draw_series(self, axes: Axes, series: Series, style: Style) -> None:
        """Draw one of the series."""
        y = [value if value > 0 else nan for value in series.y] if self.log_y else series.y  # a gap where there is none
        every = 1 if len(series.x) <= self.most_marks else len(series.x) // (self.most_marks // 2)
        axes.plot(series.x, y, **line_of(style), label=series.text if series.is_listed else "_", markevery=every)
        if len(series.low) and self.has_bars:
            axes.vlines(series.x, series.low, series.high, color=style.colour, linewidth=1.2)
        elif len(series.low):
            axes.fill_between(series.x, series.low, series.high, color=style.colour, alpha=0.18, lw=0)

    def _format_x(self, axes: Axes) -> None:
        values = [value for series in self.series for value in series.x]
        if self.x_names:
            shown = range(0, len(self.x_names), -(-len(self.x_names) // _MOST_X_NAMES))
            is_long = max(map(len, self.x_names)) > 3
            axes.set_xticks(shown, [self.x_names[i] for i in shown], rotation=30 if is_long else 0)
        elif self.log_x:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")  # not as powers of ten, which would be formulas
            axes.xaxis.set_minor_formatter(NullFormatter())
        elif all(value == int(value) and value < 100 for value in values):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        elif max(map(abs, values), default=0) >= 10_000:
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_major_locator(MaxNLocator(5))
        if self.x_on_top:
            name, factor = self.x_on_top
            top = axes.secondary_xaxis("top", functions=(partial(mul, factor), partial(mul, 1 / factor)))
            top.set_xlabel(name)
            top.xaxis.set_major_formatter("{x:g}")
            top.xaxis.set_minor_formatter(NullFormatter())


def line_of(style: Style) -> dict[str, Any]:
    """Return what matplotlib draws a line with; an edge of the colour of the paper parts marks that overlap."""
    edge = style.colour if style.marker in ("x", "*", "") else PAPER
    return {"color": style.colour, "marker": style.marker, "linestyle": style.line, "markeredgecolor": edge}


def _aside(x: Sequence[float | int], places: float) -> list[float]:
    """Return values moved by a few hundredths of the step between them, so that bars do not hide each other."""
    step = x[1] / x[0] if len(x) > 1 else 1.0
    return [value * step ** (0.12 * places) for value in x]


def _begin_at_zero(axes: Axes) -> None:
    top = max(axes.dataLim.y1, 0.001)  # where all are 0, too
    axes.set_ylim(-0.05 * top, 1.07 * top)
