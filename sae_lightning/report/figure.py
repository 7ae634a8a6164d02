"""matplotlib figures as inline SVG: small, legible without colour, and in the colours of the page.

Each is drawn 330 pixels wide, so that its text keeps its size on a phone, and in colours that stand for CSS custom
properties, which the page sets for light, dark and print. Text stays text. Ids are made unique, since many figures
share one page.
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import cycle
from statistics import fmean, stdev
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib import style as matplotlib_style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sae_lightning.figures.look import STYLES, Style
from sae_lightning.report.words import policy_label

WIDTH = 330
"""Of every figure, in CSS pixels: what a phone of 360 shows."""
_VARIABLES = (
    "ink", "paper", "muted", "line", "accent", "shade",
    "trained", "frozen-decoder", "soft-frozen-decoder", "frozen-encoder", "other",
)  # fmt: skip
COLOURS = {name: f"#0{number:x}0{number:x}0{number:x}" for number, name in enumerate(_VARIABLES, 1)}
"""What is drawn in place of each custom property: colours that nothing else has."""
_SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}"
_REFERRED_TO = re.compile("[mp][0-9a-f]{10}|C[0-9a-f_]+")
"""Ids of markers and of clipping paths, unlike those of groups."""
_NO_TURN = re.compile(r"rotate\(-?0 [^)]*\)")
_FONTS = re.compile("font-family: [^;]*; ?")
_DIGITS = re.compile(r"(\.\d\d)\d+")
_LOOK: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,  # a $ in a name is a $
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "axes.labelsize": 11,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "legend.fontsize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "lines.markersize": 6,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
}
_COLOURED = {
    "axes.edgecolor": "muted",
    "axes.labelcolor": "ink",
    "text.color": "ink",
    "xtick.color": "muted",
    "ytick.color": "muted",
    "xtick.labelcolor": "ink",
    "ytick.labelcolor": "ink",
    "grid.color": "line",
}
_LINES: tuple[Any, ...] = ("-", "--", ":", "-.")
FLOOR: dict[str, Any] = {"linestyle": (0, (5, 3)), "linewidth": 1.3}


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
class Chart:
    """A figure with its words and its numbers.

    Args:
        title: in plain words.
        says: what is seen, for whom does not see it.
        svg: to be put into the page as it is.
        table: the numbers.
        name: of the metric, as in the files of the run.
        note: a line under the figure.
    """

    title: str
    says: str
    svg: Markup
    table: Table
    name: str = ""
    note: str = ""


def look_of(colours: Mapping[str, str]) -> list[Any]:
    """What matplotlib draws all figures with."""
    return ["default", _LOOK | {name: colours[colour] for name, colour in _COLOURED.items()}]


def mean_and_spread(values: Sequence[float | None], show: str) -> str:
    """Mean and sample standard deviation, as text; a hyphen without values.

    >>> mean_and_spread([1.0, 3.0], ".2f"), mean_and_spread([1.0, None], ".2f"), mean_and_spread([], ".2f")
    ('2.00 ± 1.41', '1.00', '-')
    """
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "-"
    mean = f"{fmean(numbers):{show}}"
    return mean if len(numbers) == 1 else f"{mean} ± {stdev(numbers):{show}}"


def looks(names: Sequence[str], colours: Mapping[str, str] = COLOURS) -> dict[str, Style]:
    """Colour variable, marker and line of each policy, and of what else a chart has; no two are the same."""
    others = cycle(
        Style(colours["other"], marker, line) for marker, line in zip("PXH<>d8", cycle(_LINES), strict=False)
    )
    return {
        name: Style(colours.get(name.replace("_", "-"), colours["other"]), STYLES[name].marker, STYLES[name].line)
        if name in STYLES
        else next(others)
        for name in names
    }


@contextmanager
def axes(height: int) -> Iterator[Axes]:
    """The axes of a figure of this height in pixels, which `svg_of` takes."""
    with matplotlib_style.context(look_of(COLOURS)):
        yield Figure(figsize=(WIDTH / 72, height / 72)).subplots()


def legend(axis: Axes, columns: int = 2) -> None:
    """What the axis has labels for, under it; a label that begins with an underscore needs a space before it."""
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        names = [policy_label(of.strip()) for of in labels]
        axis.figure.legend(
            handles, names, loc="outside lower center", ncols=1 if max(map(len, names)) > 24 else columns,
            columnspacing=1.2, borderpad=0.1, labelspacing=0.3,
        )  # fmt: skip


def svg_of(axis: Axes, key: str, title: str, says: str) -> Markup:
    """The figure of an axis as an SVG element of a page.

    Args:
        axis: of the only figure.
        key: what no other figure of the page has; its ids are made of it.
        title: for screen readers, with `says`.
        says: see `Chart`.
    """
    file = io.BytesIO()
    figure = axis.get_figure()
    assert isinstance(figure, Figure)
    with matplotlib_style.context(look_of(COLOURS)):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    chart_id = "c" + blake2b(key.encode("utf-8", "replace"), digest_size=5).hexdigest()
    root = ElementTree.fromstring(file.getvalue())
    for parent in list(root.iter()):
        parent.text = (parent.text or "").strip()
        for child in list(parent):
            child.tail = ""
            if child.tag in (_SVG + "metadata", _SVG + "style"):  # addresses; a style that would be the page's
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.attrib = dict(filter(None, (_own(key, value, chart_id) for key, value in element.attrib.items())))
    inside = "".join(ElementTree.tostring(child, encoding="unicode") for child in root)
    head = Markup(
        '<svg class="chart" viewBox="{}" role="img" aria-labelledby="{}-title" aria-describedby="{}-desc">'
    ).format(root.attrib["viewBox"], chart_id, chart_id)
    about = Markup('<title id="{}-title">{}</title><desc id="{}-desc">{}</desc>').format(
        chart_id, title, chart_id, says
    )
    return head + about + Markup(inside) + Markup("</svg>")  # matplotlib and ElementTree have escaped what is inside


def _own(key: str, value: str, chart_id: str) -> tuple[str, str] | None:
    """An attribute with ids that are this figure's alone, and colours and fonts that are the page's; None for none."""
    if key == "id":
        return ("id", f"{chart_id}-{value}") if _REFERRED_TO.fullmatch(value) else None
    if key == _XLINK + "href":
        return "href", f"#{chart_id}-{value[1:]}"
    if key == "transform" and _NO_TURN.fullmatch(value):
        return None
    value = value.replace("url(#", f"url(#{chart_id}-")
    if key == "style":
        for name, colour in COLOURS.items():
            value = value.replace(colour, f"var(--{name})")
        value = _FONTS.sub("", value)
    if key in ("d", "x", "y", "transform", "width", "height"):
        value = _DIGITS.sub(r"\1", value).replace("  ", " ")
    return key, value
