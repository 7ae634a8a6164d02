"""`Dots`: a row for each policy with its seeds, their mean and an interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.markers import CARETLEFT, CARETRIGHT
from matplotlib.ticker import MaxNLocator
from typing_extensions import override

from sae_lightning.figures.chart import LEAST_SPAN, Chart, Table, least_ends
from sae_lightning.figures.look import MUTED, PAPER
from sae_lightning.members import TRAINED, Style, policy_title
from sae_lightning.tables import number_format

MARKS = {"beats": "✓", "equivalent": "≈", "unclear": "~", "loses": "✗", "unknown": "?", "inactive": "–"}
"""What stands beside each verdict, for whom its colour or word is not enough."""
_ROW, _FRAME = 24, 46
_BEYOND = 1.0
"""An axis goes beyond the floor and the marks, for intervals, by this share of what lies between these at most."""
_ARROWS = {"higher": "higher is better →", "lower": "← lower is better"}


@dataclass(frozen=True)
class Row:
    """A policy in a chart of dots.

    Args:
        policy: or the name of a reference.
        seeds: a value for each, one or more.
        interval: where its mean may lie, in `Dots` beside that of the SAE that is compared; None where nothing says so.
        verdict: what that SAE does to it; empty for none.
        noise: which noise it was trained on in place of activations; empty for none.
    """

    policy: str
    seeds: Sequence[float | int]
    interval: tuple[float, float] | None = None
    verdict: str = ""
    noise: str = ""

    @property
    def label(self) -> str:
        """Name in plain words."""
        return policy_title(self.policy) + (f" on {self.noise}" if self.noise else "")

    @property
    def word(self) -> str:
        """The verdict with its mark; empty for none."""
        return f"{MARKS[self.verdict]} {self.verdict}" if self.verdict else ""

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return fmean(self.seeds)


@dataclass(frozen=True)
class Dots(Chart):
    """A row for each policy: small marks for its seeds, a large one for their mean, a bar for the interval.

    Args:
        rows: one or more, of which one may be the SAE that is compared.
        floor: what an SAE that does nothing scores, or chance; None for none.
        better: higher, lower or empty.
        unit: of the values.
        compared: policy of the SAE that is compared with the others, the trained or a published one.
        subject: what it is called in a sentence.
    """

    rows: Sequence[Row]
    floor: float | int | None = None
    better: str = ""
    unit: str = ""
    compared: str = TRAINED
    subject: str = "the trained SAE"

    @property
    @override
    def alt_text(self) -> str:
        parts = [
            f"{row.label} {row.mean:{self.number_format}}" + (f", {self.subject} {row.verdict}" if row.verdict else "")
            for row in self.rows
        ]
        floor = [] if self.floor is None else [f"floor {self.floor:{self.number_format}}"]
        return "; ".join([f"{self.name or self.title}: {parts[0]}", *parts[1:], *floor]) + "."

    @property
    @override
    def table(self) -> Table:
        show, cells = self.number_format, []
        for row in self.rows:
            interval = ["-", "-"] if row.interval is None else [f"{end:{show}}" for end in row.interval]
            seeds = ", ".join(f"{value:{show}}" for value in row.seeds)
            cells.append([row.label, f"{row.mean:{show}}", *interval, seeds, row.verdict or "-"])
        if self.floor is not None:
            cells.append(["floor", f"{self.floor:{show}}", "-", "-", "-", "-"])
        repeated = "seeds" if self.compared == TRAINED else "draws"
        heads = ["", "mean", "interval from", "to", repeated, self.subject.removeprefix("the ")]
        told = [place for place in range(len(heads)) if any(row[place] != "-" for row in cells)]
        kept = [[row[place] for place in told] for row in cells]
        return Table(self.name or self.title, [heads[place] for place in told], kept)

    @property
    @override
    def policies(self) -> list[str]:
        return [row.policy for row in self.rows]

    @property
    @override
    def height(self) -> int:
        return _FRAME + _ROW * len(self.rows)

    @override
    def draw(self, axes: Axes, styles: Mapping[str, Style]) -> None:
        if self.floor is not None:
            axes.axvline(self.floor, color=MUTED, linestyle=(0, (5, 3)), linewidth=1.3)
        for row in self.rows:
            if row.policy == self.compared and not row.noise:
                axes.axvline(row.mean, color=styles[row.policy].colour, linewidth=1, alpha=0.55)
        for y, row in enumerate(self.rows):
            draw_row(axes, y, row, styles[row.policy], row.word)
            draw_mean(axes, y, row, styles[row.policy])
        axes.margins(x=0.06)
        axes.update_datalim(
            [(end, 0.0) for end in least_ends((row.mean for row in self.rows), self.floor)], updatey=False
        )
        axes.autoscale_view()
        self._cut_intervals(axes, styles)
        self._cut(axes)
        self.draw_frame(axes)

    def _cut_intervals(self, axes: Axes, styles: Mapping[str, Style]) -> None:
        """End the axis where wide intervals, as two seeds give, would leave the marks no room; arrows say that it is.

        Their ends are in the table.
        """
        marks = [value for row in self.rows for value in (row.mean, *row.seeds)]
        marks += least_ends(marks, self.floor)
        low, high = min(marks), max(marks)
        left, right = axes.get_xlim()
        left, right = max(left, low - _BEYOND * (high - low)), min(right, high + _BEYOND * (high - low))
        axes.set_xlim(left, right)
        for y, row in enumerate(self.rows):
            begin, end = row.interval or (left, right)
            for place, arrow, is_cut in ((left, CARETLEFT, begin < left), (right, CARETRIGHT, end > right)):
                if is_cut:
                    axes.plot(place, y, marker=arrow, color=styles[row.policy].colour, markersize=6)

    def _cut(self, axes: Axes) -> None:
        """End the axis where rows far below the floor would leave the others no room; these have their number.

        Where all are far below it, as where the floor is the best there can be, the axis shows all.
        """
        if self.floor is None or self.better not in _ARROWS:
            return
        sign = 1 if self.better == "higher" else -1
        best = max(sign * (row.mean - self.floor) for row in self.rows)
        if best < -LEAST_SPAN:
            return
        end = self.floor - sign * max(LEAST_SPAN, best)
        below = [(y, row) for y, row in enumerate(self.rows) if sign * (row.mean - end) < 0]
        if not below:
            return
        left, right = axes.get_xlim()
        axes.set_xlim((end, right) if sign > 0 else (left, end))
        box = {"facecolor": PAPER, "edgecolor": "none", "pad": 1}  # over the interval
        for y, row in below:
            words = f"◂ {row.mean:{self.number_format}}" if sign > 0 else f"{row.mean:{self.number_format}} ▸"
            axes.text(end, y, words, ha="left" if sign > 0 else "right", va="center_baseline", bbox=box)

    def draw_frame(self, axes: Axes) -> None:
        """Name the rows and the axis below them."""
        axes.set_yticks(range(len(self.rows)), [row.label for row in self.rows])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(self.rows) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))  # as people count
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(self.axis_name)

    @property
    def axis_name(self) -> str:
        """What stands below the axis."""
        floor = "" if self.floor is None else "dashed: floor"
        return " · ".join(filter(None, [self.unit, floor, _ARROWS.get(self.better)]))

    @property
    def number_format(self) -> str:
        """Format of its numbers."""
        return number_format([*(row.mean for row in self.rows), self.floor])


def draw_row(axes: Axes, y: int, row: Row, style: Style, words: str) -> None:
    """Draw seeds and interval of a row, and words beside it."""
    if row.interval:
        axes.plot(row.interval, (y, y), color=style.colour, linewidth=2.4, solid_capstyle="butt", alpha=0.6)
    if len(row.seeds) > 1:
        axes.plot(row.seeds, [y] * len(row.seeds), **_mark(style), markersize=3.5, alpha=0.55)
    if words:
        axes.text(1.03, y, words, transform=axes.get_yaxis_transform(), va="center_baseline")


def draw_mean(axes: Axes, y: int, row: Row, style: Style, is_whole: bool = False) -> None:
    """Draw the mark of the mean of a row.

    Args:
        axes: where it is drawn.
        y: place of the row.
        row: what is shown.
        style: of the mark.
        is_whole: do not cut the mark at the edge of the axes, which it lies in.
    """
    face, edge = (PAPER, style.colour) if row.noise else (style.colour, PAPER)
    look = _mark(style) | {"markersize": 8, "markerfacecolor": face, "markeredgecolor": edge}
    axes.plot(row.mean, y, **look, clip_on=not is_whole)


def _mark(style: Style) -> dict[str, Any]:
    return {"color": style.colour, "marker": style.marker, "linestyle": "none"}
