"""`Chart`: plain data, their words and numbers, and how they are drawn on axes."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import copysign
from typing import ClassVar, Literal

from matplotlib.axes import Axes

from sae_lightning.members import Style

LEAST_SPAN = 0.1
"""An axis shows this much at least. Shares, cosines and what is recovered differ by noise below it."""


def least_ends(
    values: Iterable[float | int], floor: float | int | None, least_span: float = LEAST_SPAN
) -> tuple[float, float]:
    """Return what an axis holds at least: the floor, or else 0, and so much that noise does not fill it.

    >>> least_ends([0.75, 0.5], None), least_ends([0.51, 0.52], 0.5)
    ((0.0, 0.75), (0.5, 0.6))
    """
    start = 0.0 if floor is None else float(floor)
    span = max((value - start for value in values), key=abs, default=0.0)
    return start, start + (span if abs(span) >= least_span else copysign(least_span, span or -start or 1.0))


class FigureSkipped(Exception):
    """Why a figure is not drawn."""


@dataclass(frozen=True)
class Table:
    """Cells as text, the first column being the head of its row.

    Args:
        caption: what it shows.
        head: of the columns.
        rows: as many cells in each.
        prose: cells hold sentences and not numbers.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    prose: bool = False


@dataclass(frozen=True)
class Chart(ABC):
    """A chart of one pair of axes.

    Args:
        title: in plain words.
        name: of the metric, as in the files of the run.
        note: a line under the chart.
        about: how the numbers are computed.
    """

    title_at: ClassVar[Literal["left", "center"]] = "left"
    """Where the title stands in a figure of several charts."""

    title: str
    name: str = field(default="", kw_only=True)
    note: str = field(default="", kw_only=True)
    about: str = field(default="", kw_only=True)

    @property
    @abstractmethod
    def alt_text(self) -> str:
        """Description for screen readers."""

    @property
    @abstractmethod
    def table(self) -> Table:
        """The numbers."""

    @property
    @abstractmethod
    def policies(self) -> Sequence[str]:
        """Policies and other names that are drawn each in a style of its own."""

    @property
    def legend(self) -> Mapping[str, str]:
        """Policies by what the legend calls them, where they are drawn in their own styles."""
        return {}

    @property
    def marks(self) -> Mapping[str, Style]:
        """Styles of what else the legend names, such as a floor."""
        return {}

    @property
    def height(self) -> int:
        """Height in points, without title and legend."""
        return 210

    @abstractmethod
    def draw(self, axes: Axes, styles: Mapping[str, Style]) -> None:
        """Draw on empty axes, in the styles of `policies`, which are the same in all charts of a figure."""
