"""The kinds of charts of the page: dots with intervals, lines, and points."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator, NullFormatter

from sae_lightning.report.figure import COLOURS, FLOOR, Chart, Table, axes, legend, looks, svg_of
from sae_lightning.report.words import in_order, label, policy_label
from sae_lightning.tables import number_format

VERDICTS = {"beats": "✓ beats", "ties": "= ties", "loses": "✗ loses", "unknown": "? unknown"}
ROW, FRAME = 24, 46
"""Heights in pixels: of a row of dots, and of what is under them."""


@dataclass(frozen=True)
class Row:
    """A member of a chart of dots.

    Args:
        policy: or the name of a reference.
        seeds: a value for each.
        interval: where the value may lie, beside that of the trained SAE; None where nothing says so.
        verdict: what the trained SAE does to it; empty for none.
        noise: which noise it was trained on in place of activations; empty for none.
    """

    policy: str
    seeds: Sequence[float]
    interval: tuple[float, float] | None = None
    verdict: str = ""
    noise: str = ""

    @property
    def label(self) -> str:
        """In plain words."""
        return policy_label(self.policy) + (f" on {self.noise}" if self.noise else "")

    @property
    def mean(self) -> float:
        """Over seeds."""
        return fmean(self.seeds)


def dots(
    key: str, metric: str, rows: Sequence[Row], floor: float | None, better: str = "", note: str = "", title: str = ""
) -> Chart:
    """A row for each member: its seeds, their mean, and the interval.

    Args:
        key: see `svg_of`.
        metric: as in the files of the run.
        rows: one or more, of which one may be the trained SAE.
        floor: the score of an SAE that does nothing, or of chance.
        better: higher, lower or empty.
        note: see `Chart`.
        title: in place of the metric's plain words.
    """
    with axes(FRAME + ROW * len(rows)) as axis:
        draw_dots(axis, rows, floor, better)
        says = _said(metric, rows, floor)
        svg = svg_of(axis, key, title or label(metric), says)
    show = number_format([*(row.mean for row in rows), floor])
    cells = []
    for row in rows:
        seeds = ", ".join(f"{of:{show}}" for of in row.seeds)
        cells.append([row.label, f"{row.mean:{show}}", *_span(row.interval, show), seeds, row.verdict or "-"])
    cells.append(["floor", "-" if floor is None else f"{floor:{show}}", "-", "-", "-", "-"])
    table = Table(metric, ["", "mean", "interval from", "to", "seeds", "trained SAE"], cells)
    return Chart(title or label(metric), says, svg, table, metric, note)


def draw_dots(
    axis: Axes, rows: Sequence[Row], floor: float | None, better: str, colours: Mapping[str, str] = COLOURS
) -> None:
    """Draw what `dots` shows."""
    style = looks([row.policy for row in rows], colours)
    trained = next((row.mean for row in rows if row.policy == "trained" and not row.noise), None)
    if floor is not None:
        axis.axvline(floor, color=colours["muted"], **FLOOR)
    if trained is not None:
        axis.axvline(trained, color=colours["trained"], linewidth=1, alpha=0.55)
    for y, row in enumerate(rows):
        look = style[row.policy]
        mark: dict[str, Any] = {"color": look.colour, "marker": look.marker, "linestyle": "none"}
        if row.interval:
            axis.plot(row.interval, (y, y), color=look.colour, linewidth=2.4, solid_capstyle="butt", alpha=0.6)
        if len(row.seeds) > 1:
            axis.plot(row.seeds, [y] * len(row.seeds), **mark, markersize=3.5, alpha=0.55)
        mark["markerfacecolor"], mark["markeredgecolor"] = look.colour, colours["paper"]
        if row.noise:
            mark["markerfacecolor"], mark["markeredgecolor"] = colours["paper"], look.colour
        axis.plot(row.mean, y, **mark, markersize=8)
        if row.verdict:
            axis.text(1.03, y, VERDICTS[row.verdict], transform=axis.get_yaxis_transform(), va="center_baseline")
    axis.set_yticks(range(len(rows)), [row.label for row in rows])
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.margins(x=0.06)
    axis.grid(visible=False, axis="y")
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.spines["left"].set_visible(False)
    arrow = {"higher": "higher is better →", "lower": "← lower is better"}.get(better, "")
    axis.set_xlabel(" · ".join(filter(None, ["dashed: floor" if floor is not None else "", arrow])))


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Args:
        name: of a policy, or words.
        x: where it has values.
        y: the values.
        low: lower end of a band; empty for none.
        high: upper end.
    """

    name: str
    x: Sequence[float | int]
    y: Sequence[float | int]
    low: Sequence[float] = field(default=())
    high: Sequence[float] = field(default=())


def lines(
    key: str,
    title: str,
    series: Sequence[Series],
    x: str,
    y: str,
    floor: float | None = None,
    name: str = "",
    note: str = "",
    log_x: bool = False,
    join: bool = True,
    adjust: Callable[[Axes], object] | None = None,
) -> Chart:
    """Lines with markers.

    Args:
        key: see `svg_of`.
        title: see `Chart`.
        series: one or more.
        x: name of the axis.
        y: name of the axis.
        floor: drawn across.
        name: see `Chart`.
        note: see `Chart`.
        log_x: a logarithmic axis.
        join: points are joined by lines.
        adjust: what else is to be done to the axes.
    """
    style = looks([of.name for of in series])
    n_rows = math.ceil((len(series) + (floor is not None)) / 2)
    with axes(210 + 17 * n_rows) as axis:
        if floor is not None:
            axis.axhline(floor, label="floor", color=COLOURS["muted"], **FLOOR)
        for of in series:
            look = style[of.name]
            axis.plot(
                of.x, of.y, color=look.colour, marker=look.marker, linestyle=look.line if join else "none",
                markeredgecolor=COLOURS["paper"], markeredgewidth=0.6,
                label=f" {of.name}", markevery=max(1, len(of.x) // 6),
            )  # fmt: skip
            if len(of.low):
                axis.fill_between(of.x, of.low, of.high, color=look.colour, alpha=0.18, lw=0)
        axis.set(xlabel=x, ylabel=y)
        if log_x:
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter("{x:g}")  # not as powers of ten, which would be formulas
            axis.xaxis.set_minor_formatter(NullFormatter())
        elif all(isinstance(value, int) and value < 100 for of in series for value in of.x):
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        elif max((abs(value) for of in series for value in of.x), default=0) >= 10_000:
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))
            axis.xaxis.set_major_locator(MaxNLocator(5))
        if adjust:
            adjust(axis)
        legend(axis)
        says = f"{y} over {x}, for {', '.join(policy_label(of.name) for of in series)}."
        svg = svg_of(axis, key, title, says)
    rows = [[policy_label(of.name), f"{a:.6g}", f"{b:.4g}"] for of in series for a, b in zip(of.x, of.y, strict=True)]
    return Chart(title, says, svg, Table(title, ["", x, y], rows), name, note)


def rows_of(values: Mapping[str, Mapping[str, float | None]]) -> list[Row]:
    """Rows of one metric by policy and seed; without what has no value."""
    found = {policy: [value for value in of.values() if value is not None] for policy, of in values.items()}
    return [Row(policy, found[policy]) for policy in in_order(found) if found[policy]]


def _said(metric: str, rows: Sequence[Row], floor: float | None) -> str:
    show = number_format([*(row.mean for row in rows), floor])
    parts = [
        f"{row.label} {row.mean:{show}}" + (f", the trained SAE {row.verdict}" if row.verdict else "") for row in rows
    ]
    return "; ".join([f"{metric}: {parts[0]}", *parts[1:], *([] if floor is None else [f"floor {floor:{show}}"])]) + "."


def _span(interval: tuple[float, float] | None, show: str) -> tuple[str, str]:
    return ("-", "-") if interval is None else (f"{interval[0]:{show}}", f"{interval[1]:{show}}")
