"""A chart as an SVG element of the page: small, legible without colour, and in the colours of the page.

It is 330 pixels wide, so that its text keeps its size on a phone. Text stays text. Ids are made unique, since many
charts share one page. Colours become custom properties, except black, which SVG takes for granted and leaves out: the
page fills its charts with the colour of its ink.
"""

import io
import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib import style as matplotlib_style
from matplotlib.figure import Figure

from sae_lightning.figures.chart import Chart
from sae_lightning.figures.look import CSS_PROPERTIES, LOOK, add_legend
from sae_lightning.members import Style, policy_styles

WIDTH = 330
"""Of every chart, in CSS pixels: what a phone of 360 shows."""
_CHARACTERS = 60
"""Characters of a legend that fit side by side in that width, marks included."""
_LOOK: dict[str, Any] = LOOK | {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.size": 11,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "legend.fontsize": 10.5,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
}
_SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}"
_REFERRED_TO = re.compile("[mp][0-9a-f]{10}|C[0-9a-f_]+")
"""Ids of markers and of clipping paths, unlike those of groups."""
_NO_TURN = re.compile(r"rotate\(-?0 [^)]*\)")
_FONTS = re.compile("font-family: [^;]*; ?")
_COLOUR = re.compile("#[0-9a-f]{6}")
_DIGITS = re.compile(r"(\.\d)\d+")
_NO_DIGITS = re.compile(r"\.0(?=\D|$)")


def svg_of(
    chart: Chart,
    chart_id: str,
    styles: Mapping[str, Style] | None = None,
    has_legend: bool = True,
    classes: dict[str, str] | None = None,
) -> Markup:
    """Draw a chart as an SVG element.

    Args:
        chart: what is drawn.
        chart_id: unique on the page; ids inside begin with it.
        styles: of its policies and others, so that all charts of a page agree; None for those of the chart alone.
        has_legend: name the policies in it; False where the page does, once for several charts.
        classes: names of CSS classes by declarations, to which those of this chart are added: half of a chart would
            be declarations that all charts repeat. None leaves them in the elements.
    """
    file = io.BytesIO()
    look: list[Any] = ["default", _LOOK]
    with matplotlib_style.context(look):
        figure = Figure()
        axes = figure.subplots()
        chart.draw(axes, policy_styles(chart.policies) if styles is None else styles)
        n_rows = add_legend(
            figure, [axes], 2, _CHARACTERS, left_out=() if has_legend else {*chart.legend, *chart.marks}
        )
        figure.set_size_inches(WIDTH / 72, (chart.height + 17 * n_rows) / 72)
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(file.getvalue())
    for parent in list(root.iter()):
        parent.text = (parent.text or "").strip()
        for child in list(parent):
            child.tail = ""
            if child.tag in (_SVG + "metadata", _SVG + "style"):  # addresses; a style that would be the page's
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.attrib = dict(filter(None, (_attribute(*pair, chart_id) for pair in element.attrib.items())))
    _slim(root)
    for element in root.iter():
        if classes is not None and (declarations := element.attrib.pop("style", "")):
            element.attrib["class"] = classes.setdefault(declarations, f"s{len(classes)}")
    inside = "".join(ElementTree.tostring(child, encoding="unicode") for child in root)
    head = Markup(
        '<svg class="chart" viewBox="{}" role="img" aria-labelledby="{}-title" aria-describedby="{}-desc">'
    ).format(root.attrib["viewBox"], chart_id, chart_id)
    about = Markup('<title id="{}-title">{}</title><desc id="{}-desc">{}</desc>').format(
        chart_id, chart.title, chart_id, chart.alt_text
    )
    return head + about + Markup(inside) + Markup("</svg>")  # matplotlib and ElementTree have escaped what is inside


def style_sheet(classes: Mapping[str, str]) -> str:
    """Return the CSS of the classes that `svg_of` has named."""
    return "\n".join(f"svg .{name} {{ {declarations} }}" for declarations, name in classes.items())


def _slim(parent: ElementTree.Element) -> None:
    """Take out what draws nothing: paths without a line or an area, empty groups, and groups that say nothing."""
    kept: list[ElementTree.Element] = []
    for child in parent:
        _slim(child)
        is_bare_group = child.tag == "g" and not child.attrib
        if is_bare_group:
            kept += list(child)
        elif child.attrib.get("style") != "fill: none" and (len(child) or child.attrib or child.text):
            kept.append(child)
    parent[:] = kept


def _attribute(key: str, value: str, chart_id: str) -> tuple[str, str] | None:
    """Return an attribute with ids of this chart alone, and colours and fonts of the page; None leaves it out."""
    if key == "id":
        return ("id", f"{chart_id}-{value}") if _REFERRED_TO.fullmatch(value) else None
    if key == _XLINK + "href":
        return "href", f"#{chart_id}-{value[1:]}"
    if key == "transform" and _NO_TURN.fullmatch(value):
        return None
    value = value.replace("url(#", f"url(#{chart_id}-")
    if key == "style":
        value = _COLOUR.sub(lambda match: f"var(--{CSS_PROPERTIES[match[0]]})", _FONTS.sub("", value))
    if key in ("d", "x", "y", "transform", "width", "height"):
        value = _DIGITS.sub(r"\1", value).replace("  ", " ").strip()
        value = _NO_DIGITS.sub("", value)
    return key, value
