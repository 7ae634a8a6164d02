"""Bars begin at the floor, and no axis is cut to where values differ."""

import pytest
from matplotlib.figure import Figure

from sae_lightning.figures.bars import Bars
from sae_lightning.figures.dots import Row
from sae_lightning.members import policy_styles

ROWS = [Row("trained", [0.61, 0.63], (0.55, 0.69)), Row("pca", [0.6], verdict="unclear")]


def drawn(chart: Bars):
    axes = Figure().subplots()
    chart.draw(axes, policy_styles(chart.policies))
    return axes


def test_a_bar_goes_from_the_floor_to_the_mean():
    axes = drawn(Bars("title", ROWS, 0.5, "higher", best=1.0, references=["pca"]))
    ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
    assert ends == [pytest.approx((0.5, 0.62)), pytest.approx((0.5, 0.6))]
    left, right = axes.get_xlim()
    assert (left, right) == pytest.approx((0.485, 1.015))  # all from the floor to the best, and no less
    assert [text.get_text() for text in axes.texts] == ["0.620", "0.600  ~ unclear"]
    blue, grey = (bar.get_facecolor()[:3] for bar in axes.patches)
    assert grey[0] == grey[1] == grey[2]
    assert blue[2] > blue[0]
    assert [0.55, 0.69] in [list(line.get_xdata()) for line in axes.get_lines()]  # the interval


@pytest.mark.parametrize(
    ("floor", "best", "values", "expected"),
    [
        (1.0, 0.0, (0.2, 0.3), (0.0, 1.0)),  # where lower is better
        (None, 1.0, (0.2, 0.3), (0.0, 1.0)),
        (2.0, None, (5.0, 9.0), (2.0, 9.0)),
        (0.5, 1.0, (0.4, 0.8), (0.4, 1.0)),  # below the floor
        (0.0, 1.0, (-1.7, 0.8), (-0.5, 1.0)),  # far below it
        (0.02, 0.0, (0.01, 0.06), (0.0, 0.06)),  # lower is better, and the floor is near the best
        (1.0, 1.0, (0.6, 0.0), (0.0, 1.0)),  # the floor is the best there can be
    ],
)
def test_the_axis_goes_from_the_floor_to_the_best(floor, best, values, expected):
    chart = Bars("title", [Row("trained", [value]) for value in values], floor, best=best)
    low, high = expected
    margin = 0.03 * max(abs((best if best is not None else max(values)) - (floor or 0)), 0.1)
    assert chart.limits() == pytest.approx((low - margin, high + margin))
    axes = drawn(chart)
    texts = [text.get_text() for text in axes.texts]
    assert [text.startswith("beyond: ") for text in texts] == [value < low for value in values]
    marks = [line.get_xdata()[0] for line in axes.lines if line.get_markersize() == 8]
    assert marks == [value for value in values if value >= low], "half a mark would stand at the edge"


def test_a_long_name_of_a_metric_is_not_cut_beside_another_chart():
    name = "Explained variance beyond the best linear map (mlp_in)"
    lines = Bars("title", ROWS, 0.0, "higher", best=1.0, metric=name).axis_name.splitlines()
    assert " ".join(lines[:-1]) == name
    assert max(map(len, lines)) <= 43, "characters for which there is room"
