"""Charts as SVG, on values made by hand."""

import re
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure
from matplotlib.markers import CARETLEFT, CARETRIGHT

from sae_lightning.figures.chart import least_ends
from sae_lightning.figures.dots import Dots, Row
from sae_lightning.figures.lines import Guide, Lines, Series
from sae_lightning.figures.svg import _slim, style_sheet, svg_of
from sae_lightning.members import policy_styles
from sae_lightning.report.marks import legend


def test_intervals_of_baselines_and_marks():
    rows = [Row("trained", [0.7, 0.9]), Row("$x_1$", [0.5], (0.4, 0.6), "beats")]
    chart = Dots("key", rows, 1.0, "lower", name="fvu")
    assert chart.table.rows[1] == ["$x 1$", "0.500", "0.400", "0.600", "0.500", "beats"]
    assert chart.table.rows[2][:2] == ["floor", "1.000"]
    svg = svg_of(chart, "c1")
    assert ">$x 1$</text>" in svg  # and no formula of it
    assert "✓ beats" in svg
    assert chart.alt_text == "fvu: Trained SAE 0.800; $x 1$ 0.500, the trained SAE beats; floor 1.000."


def test_an_axis_begins_at_the_floor_and_does_not_zoom_into_noise():
    assert least_ends([0.7, 0.9], 0.0) == (0.0, 0.9)
    assert least_ends([25.0, 25.0], None) == (0.0, 25.0)
    assert least_ends([0.5001, 0.5002], 0.5) == (0.5, 0.6)
    assert least_ends([0.0], 0.0) == (0.0, 0.1)
    assert least_ends([1.0], 1.0) == (1.0, 0.9)
    alike = Dots("accuracy", [Row("trained", [0.5001]), Row("untrained", [0.5002])], 0.5)
    assert spans(alike)[0] >= 0.1
    # One feature of 3200 that is recovered is no rise from the bottom of the chart to its top.
    one = Lines("recovered", "x", "y", [Series("trained", [1, 2], [0.0, 1 / 3200])], percent=True)
    assert spans(one)[1] >= 0.1


def spans(chart):
    axes = Figure().subplots()
    chart.draw(axes, policy_styles(chart.policies))
    return [high - low for low, high in (axes.get_xlim(), axes.get_ylim())]


def test_the_page_names_policies_once_for_several_charts():
    lines = Lines("t", "x", "y", [Series("trained", [1], [2])], guides=[Guide(1.0, "floor")])
    assert lines.legend == {"Trained SAE": "trained"}
    assert ">Trained SAE<" in svg_of(lines, "c1")
    shared = svg_of(lines, "c1", has_legend=False)
    assert ">Trained SAE<" not in shared
    assert ">floor<" not in shared
    trained, floor = legend([lines, lines], policy_styles(["trained"]))
    assert (trained.label, trained.character, trained.colour) == ("Trained SAE", "●", "trained")
    assert (floor.label, floor.character, floor.colour) == ("floor", "╌", "muted")


def test_an_axis_of_powers_of_ten_has_numbers():
    series = [Series("trained", [0.001, 0.01, 0.1], [1.0, 2.0, 3.0])]
    svg = svg_of(Lines("title", "x", "y", series, log_x=True), "c1")
    assert re.findall(r">([^<]*)</text>", svg)[:3] == ["0.001", "0.01", "0.1"]
    assert "$" not in svg
    firings = [Series("trained", [0.00001, 0.001], [1.0, 2.0])]
    svg = svg_of(Lines("title", "x", "y", firings, log_x=True, x_on_top=("firings", 1e8)), "c1")
    assert {"0.00001", "0.001", "1k", "100k"} <= set(re.findall(r">([^<]*)</text>", svg))
    assert not re.findall(r">[^<]*\de[+-]\d[^<]*</text>", svg)


def test_a_table_leaves_out_what_no_row_has():
    plain = Dots("fall", [Row("trained", [0.1, 0.2]), Row("untrained", [0.3])]).table
    assert plain.head == ["", "mean", "seeds"]
    assert [row[0] for row in plain.rows] == ["Trained SAE", "Untrained SAE"]


def test_declarations_that_charts_repeat_become_classes():
    chart = Lines("t", "x", "y", [Series("trained", [1, 2, 3], [2, 3, 4])])
    plain, classes = svg_of(chart, "c1"), dict[str, str]()
    classed = svg_of(chart, "c1", classes=classes) + svg_of(chart, "c2", classes=classes)
    assert "style=" not in classed
    assert len(classed) < 1.4 * len(plain)
    for declarations in set(re.findall('style="([^"]*)"', plain)):
        assert f"svg .{classes[declarations]} {{ {declarations} }}" in style_sheet(classes)
    used = set(re.findall('class="(s[0-9]+)"', classed))
    assert used == set(classes.values())


def test_a_drawing_keeps_what_is_seen_and_drops_the_rest():
    drawn = ElementTree.fromstring(
        '<svg><g><g><path d="M 0 0" style="fill: none"/></g><g clip-path="url(#a)"><use href="#b"/></g></g><g/>'
        "<text>1</text></svg>"
    )
    _slim(drawn)
    assert ElementTree.tostring(drawn, encoding="unicode") == (
        '<svg><g clip-path="url(#a)"><use href="#b" /></g></svg>'.replace("</svg>", "<text>1</text></svg>")
    )


@pytest.mark.parametrize(("better", "sign"), [("higher", 1), ("lower", -1)])
def test_a_row_far_below_the_floor_leaves_the_others_room(better, sign):
    rows = [Row("trained", [0.8 * sign]), Row("untrained", [0.5 * sign]), Row("permuted_decoder", [-9.0 * sign])]
    axes = Figure().subplots()
    chart = Dots("ev", rows, 0.0, better)
    chart.draw(axes, policy_styles(chart.policies))
    ends = sorted(sign * end for end in axes.get_xlim())
    assert ends[0] == pytest.approx(-0.8)
    assert 0.8 < ends[1] < 1.7
    (told,) = axes.texts
    assert told.get_text() == ("◂ -9.000" if sign > 0 else "9.000 ▸")
    assert all(line.get_clip_on() for line in axes.lines), "nothing stands beside the axes"


@pytest.mark.parametrize(("better", "sign"), [("higher", 1), ("lower", -1)])
def test_rows_that_are_all_far_below_the_floor_are_shown(better, sign):
    """An edit that changes nothing leaves all else alone, which is the best there can be."""
    rows = [Row("trained", [0.6 * sign]), Row("untrained", [0.5 * sign]), Row("full_swap", [0.0])]
    axes = Figure().subplots()
    chart = Dots("isolation", rows, 1.0 * sign, better)
    chart.draw(axes, policy_styles(chart.policies))
    low, high = sorted(sign * end for end in axes.get_xlim())
    assert low < 0 < 1 < high
    assert not axes.texts


def test_intervals_much_wider_than_what_is_measured_leave_the_marks_room():
    rows = [Row("trained", [0.6, 0.61]), Row("frozen_decoder", [0.5, 0.52], (-4.0, 5.0)), Row("untrained", [0.2])]
    chart = Dots("ev", rows, 0.0, "higher")
    axes = Figure().subplots()
    chart.draw(axes, policy_styles(chart.policies))
    assert axes.get_xlim() == pytest.approx((-0.61, 1.22))
    arrows = [line for line in axes.lines if line.get_marker() in (CARETLEFT, CARETRIGHT)]
    assert [tuple(line.get_xydata()[0]) for line in arrows] == [pytest.approx((-0.61, 1)), pytest.approx((1.22, 1))]
    assert chart.table.rows[1][2:4] == ["-4.0000", "5.0000"], "the table has their ends"
    narrow, chart = Figure().subplots(), Dots("ev", [Row("trained", [0.6]), Row("untrained", [0.5], (0.45, 0.55))], 0.0)
    chart.draw(narrow, policy_styles(chart.policies))
    assert not [line for line in narrow.lines if line.get_marker() in (CARETLEFT, CARETRIGHT)]
    assert 0.6 < narrow.get_xlim()[1] < 0.65
