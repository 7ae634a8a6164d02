"""One chart of a metric across sizes or hooks."""

import pytest
from matplotlib.figure import Figure

from sae_lightning.members import Member, Tag, policy_styles
from sae_lightning.report.across_parts import across_parts
from sae_lightning.runs import Measurements

TAGS = [Tag("ev", "x16"), Tag("ev", "x2")]


def measured(floor):
    values = {
        tag: {Member("trained", seed, tag.part): value + seed / 1000 for seed in (0, 1)}
        for tag, value in zip(TAGS, (0.702, 0.7), strict=True)
    }
    return Measurements(values, dict.fromkeys(TAGS, floor))


def test_sizes_stand_in_their_order_from_the_floor_on():
    chart = across_parts([measured(0.5)], TAGS)
    assert chart.x_names == ["x2", "x16"]
    trained, floor = chart.series
    assert trained.y == pytest.approx([0.7005, 0.7025])
    assert (list(floor.y), floor.label) == ([0.5, 0.5], "floor")


@pytest.mark.parametrize("floor", [0.5, None])
def test_sizes_that_are_alike_are_level(floor):
    chart = across_parts([measured(floor)], TAGS)
    axes = Figure().subplots()
    chart.draw(axes, policy_styles(chart.policies))
    low, high = axes.get_ylim()
    assert high - low > 0.1
    assert low <= (floor or 0)


def test_one_part_has_no_chart_across():
    assert across_parts([measured(0.5)], TAGS[:1]) is None
