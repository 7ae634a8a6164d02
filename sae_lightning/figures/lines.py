"""`Lines`: series of values over x, with bands where they have any."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import log, nan
from operator import mul
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter
from typing_extensions import override

from sae_lightning.figures.chart import LEAST_SPAN, Chart, Table
from sae_lightning.figures.look import CHANCE, PAPER
from sae_lightning.members import Style, policy_title

Numbers: TypeAlias = Sequence[float | int]
_MOST_X_NAMES = 12
_NAME = 18
"""Points of height that the name of a series needs."""
_X_CHARACTERS, _Y_CHARACTERS = 48, 32
"""Characters of the name of an axis on a line: what a chart of the page has room for."""
_RIGHT = 0.9
"""Share of the x axis beyond which a series has reached its end."""
_FEW_DECADES = 100
"""Of so many times the least value and more, an axis of powers of ten needs no numbers between these."""


@dataclass(frozen=True)
class Series:
    """A line, or points.

    Args:
        name: a policy, or words.
        x: where it has values.
        y: the values.
        low: lower end of a band, or of the bar of each value; empty for none.
        high: upper end.
        label: in place of the name in plain words.
        style: in place of that of the policy.
        is_listed: in legend, table and description.
    """

    name: str
    x: Numbers
    y: Numbers
    low: Numbers = ()
    high: Numbers = ()
    label: str = field(default="", kw_only=True)
    style: Style | None = field(default=None, kw_only=True)
    is_listed: bool = field(default=True, kw_only=True)

    @property
    def text(self) -> str:
        """Name in plain words."""
        return self.label or policy_title(self.name)


@dataclass(frozen=True)
class Guide:
    """A line across the chart, at a value to compare with.

    Args:
        value: where.
        label: in the legend; empty for none.
        axis: that has the value.
        style: colour and line.
    """

    value: float | int
    label: str = ""
    axis: Literal["x", "y"] = "y"
    style: Style = CHANCE

    def draw(self, axes: Axes) -> None:
        """Draw it."""
        draw = axes.axvline if self.axis == "x" else axes.axhline
        label = self.label or "_"  # which matplotlib leaves out of the legend
        draw(self.value, label=label, color=self.style.colour, linestyle=self.style.line, linewidth=1.2)


@dataclass(frozen=True)
class Lines(Chart):
    """Lines with markers, over numbers or over names.

    Args:
        x: name of the axis.
        y: name of the axis.
        series: one or more.
        guides: lines across.
        x_names: what x = 0, 1, ... stand for; empty for numbers.
        x_on_top: name of a second x axis and the factor to its values; None for none.
        has_bars: what lies between low and high are bars, beside each other; x is then logarithmic, in even steps.
        log_x: logarithmic x.
        log_y: logarithmic y, with a gap where there is no positive value.
        percent: y are shares, shown in percent and from 0.
        names_beside: name each series at its end, and guides, and not in a legend.
        x_includes: values that the x axis reaches, whatever the series.
        y_includes: the same of the y axis.
    """

    most_marks: ClassVar[int] = 20
    """Where a series is longer, not every value has a mark, so that they do not hide the line."""
    least_share: ClassVar[float] = LEAST_SPAN
    """An axis in percent shows this share at least."""

    x: str
    y: str
    series: Sequence[Series]
    guides: Sequence[Guide] = field(default=(), kw_only=True)
    x_names: Sequence[str] = field(default=(), kw_only=True)
    x_on_top: tuple[str, float | int] | None = field(default=None, kw_only=True)
    has_bars: bool = field(default=False, kw_only=True)
    log_x: bool = field(default=False, kw_only=True)
    log_y: bool = field(default=False, kw_only=True)
    percent: bool = field(default=False, kw_only=True)
    names_beside: bool = field(default=False, kw_only=True)
    x_includes: Numbers = field(default=(), kw_only=True)
    y_includes: Numbers = field(default=(), kw_only=True)

    @property
    @override
    def alt_text(self) -> str:
        names = dict.fromkeys(series.text for series in self.series if series.is_listed)
        return f"{self.y} over {self.x}, for {', '.join(names)}."

    @property
    @override
    def table(self) -> Table:
        listed = [series for series in self.series if series.is_listed]
        has_bands = any(len(series.low) for series in listed)
        rows = []
        for series in listed:
            for i, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
                ends = [f"{band[i]:.4g}" if len(band) else "-" for band in (series.low, series.high)]
                name = self.x_names[int(x)] if self.x_names else _written(x)
                rows.append([series.text, name, f"{y:.4g}", *(ends if has_bands else ())])
        return Table(self.title, ["", self.x, self.y, *(("from", "to") if has_bands else ())], rows)

    @property
    @override
    def policies(self) -> list[str]:
        return [series.name for series in self.series if series.style is None]

    @property
    @override
    def legend(self) -> dict[str, str]:
        return {series.text: series.name for series in self.series if series.style is None and series.is_listed}

    @property
    @override
    def marks(self) -> dict[str, Style]:
        own = {series.text: series.style for series in self.series if series.style is not None and series.is_listed}
        return own | {guide.label: guide.style for guide in self.guides if guide.label}

    @override
    def draw(self, axes: Axes, styles: Mapping[str, Style]) -> None:
        for guide in self.guides:
            guide.draw(axes)
        for place, series in enumerate(self.series):
            style = series.style or styles[series.name]
            if self.has_bars:
                series = replace(series, x=_aside(series.x, place - (len(self.series) - 1) / 2))
            self.draw_series(axes, series, style)
        axes.set(xlabel=textwrap.fill(self.x, _X_CHARACTERS), ylabel=textwrap.fill(self.y, _Y_CHARACTERS))
        self._format_x(axes)
        if self.log_y:
            axes.set_yscale("log")
        # Points that are not drawn, of which one coordinate counts.
        axes.update_datalim([(x, 1.0) for x in self.x_includes], updatey=False)
        axes.update_datalim([(1.0, y) for y in self.y_includes], updatex=False)
        axes.autoscale_view()
        if self.percent:
            axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
            if not self.log_y:
                beside = axes.get_shared_y_axes().get_siblings(axes)
                top = max(self.least_share, *(own.dataLim.y1 for own in beside))
                axes.set_ylim(-0.05 * top, 1.07 * top)
        if self.names_beside:
            self._name_series(axes, styles)

    @property
    def beside(self) -> list[str]:
        """What is named beside it, and not in a legend."""
        guides = [guide.label for guide in self.guides if guide.axis == "y"]
        return [*(series.text for series in self.series), *guides] if self.names_beside else []

    @property
    def ends_at_right(self) -> bool:
        """Whether every series reaches the right end, where its name has room."""
        ends = [series.x[-1] for series in self.series if series.is_listed]
        begin, end = min(min(series.x) for series in self.series), max(ends)
        scale = log if self.log_x and begin > 0 else float
        return begin < end and scale(min(ends)) - scale(begin) > _RIGHT * (scale(end) - scale(begin))

    def _name_series(self, axes: Axes, styles: Mapping[str, Style]) -> None:
        """Name series to the right of their last points, and guides, one above the other where these are close."""
        right = axes.get_xlim()[1]
        names = [
            (one.text, (one.x[-1], one.y[-1]), one.style or styles[one.name]) for one in self.series if one.is_listed
        ]
        names += [(one.label, (right, one.value), one.style) for one in self.guides if one.label and one.axis == "y"]
        in_axes = axes.transScale + axes.transLimits
        heights = [in_axes.transform(end)[1] for _, end, _ in names]
        order = sorted(range(len(names)), key=heights.__getitem__)
        places = apart([heights[i] for i in order], _NAME / self.height)
        for i, place in zip(order, places, strict=True):
            text, end, style = names[i]
            line = {"arrowstyle": "-", "color": style.colour, "linewidth": 0.6, "relpos": (0, 0.5)}
            axes.annotate(text, end, (1.03, place), textcoords="axes fraction", va="center", arrowprops=line)

    def draw_series(self, axes: Axes, series: Series, style: Style) -> None:
        """Draw one of the series."""
        y = [value if value > 0 else nan for value in series.y] if self.log_y else series.y
        every = 1 if len(series.x) <= self.most_marks else len(series.x) // (self.most_marks // 2)
        axes.plot(series.x, y, **look_of(series, style), markevery=every)
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
            positive = [value for value in values if value > 0]
            if positive and max(positive) < _FEW_DECADES * min(positive):
                axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(_without_powers)
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            is_counts = all(value == int(value) and value < 100 for value in values)
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=is_counts))
            if max(map(abs, values), default=0) >= 10_000:
                axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        if self.x_on_top:
            name, factor = self.x_on_top
            top = axes.secondary_xaxis("top", functions=(partial(mul, factor), partial(mul, 1 / factor)))
            top.set_xlabel(name)
            top.xaxis.set_major_formatter(_without_powers)
            top.xaxis.set_minor_formatter(NullFormatter())


def look_of(series: Series, style: Style) -> dict[str, Any]:
    """Return what matplotlib draws a series with; an edge of the colour of the paper parts marks that overlap."""
    edge = style.colour if style.marker in ("x", "*", "|", "") else PAPER
    look = {"color": style.colour, "marker": style.marker, "linestyle": style.line, "markeredgecolor": edge}
    return look | {"label": series.text if series.is_listed else "_"}


def _without_powers(x: float | int, place: float | int | None = None) -> str:  # noqa: ARG001 - as matplotlib calls it
    """Write a mark of a logarithmic axis as people do, and not as a power of ten.

    >>> _without_powers(0.00001), _without_powers(20), _without_powers(2_000_000)
    ('0.00001', '20', '2M')
    """
    return EngFormatter(sep="")(x) if x >= 1000 else np.format_float_positional(x, trim="-")


def _written(x: float | int) -> str:
    """Write a value of the x axis: a count as it is, anything else with four digits.

    >>> _written(1024000), _written(33.4679), _written(0.000125)
    ('1,024,000', '33.47', '0.000125')
    """
    return f"{x:,.0f}" if x == int(x) else f"{x:.4g}"


def _aside(x: Numbers, places: float) -> list[float]:
    """Return values moved by a few hundredths of the step between them, so that bars do not hide each other."""
    step = x[1] / x[0] if len(x) > 1 else 1.0
    return [value * step ** (0.12 * places) for value in x]


def apart(places: Sequence[float], least: float) -> list[float]:
    """Move ascending places apart: upwards, and down again from 1 where they would leave the chart.

    >>> apart([0.1, 0.11, 0.5], 0.1)
    [0.1, 0.2, 0.5]
    >>> apart([0.7, 1.0, 1.0], 0.25)
    [0.5, 0.75, 1.0]
    """
    up: list[float] = []
    for place in places:
        up.append(max(place, up[-1] + least) if up else place)
    moved, limit = [], 1.0
    for place in reversed(up):
        moved.append(min(place, limit))
        limit = moved[-1] - least
    return moved[::-1]
