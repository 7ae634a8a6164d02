"""Files of figures are small, and show the colours of their charts as they are."""

from pathlib import Path

import numpy as np
from matplotlib.text import Text
from PIL import Image

from sae_lightning.figures.bars import Bars
from sae_lightning.figures.dots import Row
from sae_lightning.figures.lines import Guide, Lines, Series
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
    charts = [Lines(title, "x", title, [Series("trained", [1.0, 2.0], [0.5, 0.51])]) for _ in range(2)]
    figure = figure_of(charts, f"figure\n{'many words of what is shown, ' * 5}", columns=2)
    figure.draw_without_rendering()
    assert figure.get_suptitle().startswith("figure\nmany words")
    assert figure._suptitle.get_window_extent().width < figure.bbox.x1
    for axes in figure.axes:
        assert axes.yaxis.label.get_window_extent().height < axes.bbox.height
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


def test_lines_are_named_at_their_ends_where_all_of_a_figure_reach_the_right():
    def lines(*ends, **settings):
        series = [Series(name, [1, end], [0.5, 1.0]) for name, end in zip(("trained", "untrained"), ends, strict=True)]
        return Lines("title", "x", "y", series, guides=[Guide(0.0, "floor")], **settings)

    named = figure_of([lines(100, 99)], "title")
    assert not named.legends
    assert {text.get_text() for text in named.axes[0].texts} == {"Trained SAE", "Untrained SAE", "floor"}
    assert not figure_of([lines(100, 60, log_x=True)], "title").axes[0].texts  # 60 of 100 is not the end
    for charts in ([lines(100, 99), lines(100, 50)], [lines(100, 99)] * 3):
        figure = figure_of(charts, "title", columns=3)
        assert len(figure.legends) == 1
        assert not any(axes.texts for axes in figure.axes)


def test_shares_beside_each_other_are_all_within_their_common_axis():
    charts = [Lines(f"{y}", "x", "y", [Series("trained", [1, 2], [y, y])], percent=True) for y in (0.9, 0.2)]
    for axes in figure_of(charts, "title", columns=2, share_y=True).axes:
        assert axes.get_ylim()[1] > 0.9


def test_rows_of_bars_side_by_side_have_one_height():
    charts = [Bars("title", [Row(f"x{n}", [0.5]) for n in range(rows)], 0.0) for rows in (1, 4)]
    few, many = figure_of(charts, "title", columns=2).axes
    assert few.get_ylim() == many.get_ylim() == (3.5, -0.5)
