"""Files of figures are small, and show the colours of their charts as they are."""

from pathlib import Path

import numpy as np
from matplotlib.text import Text
from PIL import Image

from sae_lightning.figures.bars import Bars
from sae_lightning.figures.dots import Row
from sae_lightning.figures.lines import Lines, Series
from sae_lightning.figures.png import figure_of, pixels, write


def test_a_file_has_few_colours_and_those_of_the_chart(tmp_path: Path):
    policies = ("trained", "frozen_decoder", "soft_frozen_decoder")
    rows = [Row(name, [0.5, 0.7], (0.4, 0.8)) for name in policies]
    figure = figure_of([Bars("title", rows, 0.0, best=1.0)], "title")
    with Image.open(write(figure, tmp_path / "below" / "chart.png")) as image:
        assert image.mode == "P"
        shown = np.asarray(image.convert("RGB"))
    assert (shown == 255).all(-1).mean() > 0.5  # the paper is white
    difference = np.abs(shown - 255 * pixels(figure)[..., :3]).max(-1)
    assert difference.max() < 25  # a thin line has its colour, too


def test_axes_reach_what_they_must_include():
    chart = Lines("title", "x", "y", [Series("trained", [3.0, 4.0], [0.5, 0.51])], x_includes=(1.0,), y_includes=(0, 1))
    (axes,) = figure_of([chart], "title").axes
    assert axes.get_xlim()[0] < 1 < 4 < axes.get_xlim()[1]
    assert axes.get_ylim()[0] < 0 < 1 < axes.get_ylim()[1]


def test_an_axis_of_few_decades_has_numbers_between_its_powers():
    chart = Lines("title", "x", "y", [Series("trained", [16.0, 128.0], [0.5, 0.6])], log_x=True)
    (axes,) = figure_of([chart], "title").axes
    axes.figure.draw_without_rendering()
    low, high = axes.get_xlim()
    ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    assert [label.get_text() for tick, label in ticks if low <= tick <= high] == ["20", "50", "100"]


def test_titles_stay_within_the_figure():
    title = "Cosine of directions to their start, mean, over training"
    charts = [Lines(title, "x", "y", [Series("trained", [1.0, 2.0], [0.5, 0.51])]) for _ in range(2)]
    figure = figure_of(charts, "figure", columns=2)
    figure.draw_without_rendering()
    for axes in figure.axes:
        ends = [text.get_window_extent().x1 for text in (axes.title, axes._left_title)]
        assert max(ends) < figure.bbox.x1


def test_names_beside_series_are_in_no_legend_and_not_on_each_other():
    series = [Series("trained", [1, 2], [0.1, 0.5]), Series("frozen_decoder", [1, 2], [0.2, 0.5])]
    figure = figure_of([Lines("title", "x", "y", series, names_beside=True)], "title")
    first, second = figure.axes[0].texts
    assert {first.get_text(), second.get_text()} == {"Trained SAE", "Frozen Decoder"}
    assert not figure.legends
    figure.draw_without_rendering()
    below, above = sorted((Text.get_window_extent(name) for name in (first, second)), key=lambda box: box.y0)
    assert below.y1 <= above.y0
    assert max(below.x1, above.x1) <= figure.bbox.x1
