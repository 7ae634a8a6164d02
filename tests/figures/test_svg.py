"""Charts as SVG, on values made by hand."""

import re

from sae_lightning.figures.dots import Dots, Row
from sae_lightning.figures.lines import Guide, Lines, Series
from sae_lightning.figures.svg import svg_of


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
    assert Dots("ev", [Row("trained", [0.7]), Row("untrained", [0.9])], 0.0).least_ends() == (0.0, 0.9)
    assert Dots("letters", [Row("trained", [25.0]), Row("untrained", [25.0])]).least_ends() == (0.0, 25.0)
    alike = [Row("trained", [0.5001]), Row("untrained", [0.5002])]
    assert Dots("accuracy", alike, 0.5).least_ends() == (0.5, 0.6)
    assert Dots("nothing", [Row("trained", [0.0])], 0.0).least_ends() == (0.0, 0.1)
    assert Dots("cosine", [Row("trained", [1.0])], 1.0).least_ends() == (1.0, 0.9)


def test_the_page_names_policies_once_for_several_charts():
    lines = Lines("t", "x", "y", [Series("trained", [1], [2])], guides=[Guide(1.0, "floor")])
    assert lines.legend == {"Trained SAE": "trained"}
    assert ">Trained SAE<" in svg_of(lines, "c1")
    shared = svg_of(lines, "c1", has_legend=False)
    assert ">Trained SAE<" not in shared
    assert ">floor<" in shared


def test_an_axis_of_powers_of_ten_has_numbers():
    series = [Series("trained", [0.001, 0.01, 0.1], [1.0, 2.0, 3.0])]
    svg = svg_of(Lines("title", "x", "y", series, log_x=True), "c1")
    assert re.findall(r">([^<]*)</text>", svg)[:3] == ["0.001", "0.01", "0.1"]
    assert "$" not in svg
