"""Which metrics have a bar, and what stands beside it."""

from dataclasses import replace
from statistics import stdev

import pytest

from sae_lightning.figures.headlines import axis_ends, headline_charts, is_reference
from sae_lightning.members import Member, Tag
from sae_lightning.metric import Metric, Question
from sae_lightning.runs import Measurements

EXPLAINS, PROBES, SPEED = Question("e", "Explains?", 10), Question("p", "Holds?", 20), Question("s", "Fast?", 30)
METRICS = [
    Metric("other", "Other", EXPLAINS, "higher"),
    Metric("ev", "Explained variance", EXPLAINS, "higher", is_headline=True),
    Metric("error", "Error of a probe", PROBES, "lower"),
    Metric("speed", "Speed", SPEED, "higher", "per second"),
    Metric("drift", "Drift", Question("d", "Moved?", 40)),
]
T_95 = 4.302652729911275  # two degrees of freedom


def measured() -> Measurements:
    values = {Member("frozen_decoder", seed): 0.5 + seed / 10 for seed in range(3)}
    values |= {Member("trained", seed): 0.8 + seed / 100 for seed in range(3)} | {Member("dense_probe", 0): 0.9}
    tags = [Tag(metric.name) for metric in METRICS]
    floors = {Tag("ev"): 0.0, Tag("error"): 0.5}
    prints = {member: str(member) for member in values if member.policy != "dense_probe"}
    return Measurements(dict.fromkeys(tags, values), floors, {one.name: one for one in METRICS}, fingerprints=prints)


def test_each_question_has_its_headline_and_every_mean_its_interval():
    charts = headline_charts([measured()])
    assert [(chart.title, chart.name) for chart in charts] == [
        ("Explains?", "ev"),
        ("Holds?", "error"),
        ("Fast?", "speed"),
    ]
    rows = {row.policy: row for row in charts[0].rows}
    assert list(rows) == ["trained", "frozen_decoder", "dense_probe"]
    assert [row.verdict for row in charts[0].rows] == ["", "unclear", "loses"]
    assert [row.word for row in charts[1].rows] == ["", "~ unclear", "✓ beats"], "less of an error is better"
    half = T_95 * stdev(rows["frozen_decoder"].seeds) / 3**0.5
    assert rows["frozen_decoder"].interval == pytest.approx((0.6 - half, 0.6 + half))
    assert rows["dense_probe"].interval is None
    assert charts[0].references == ["dense_probe"]
    assert charts[0].axis_name == "Explained variance\ndashed: floor · higher is better →"


def test_ends_of_axes():
    runs = [measured()]
    assert axis_ends(runs, Tag("ev")) == (0.0, 1.0)
    assert axis_ends(runs, Tag("error")) == (0.5, 0.0)
    assert axis_ends(runs, Tag("speed")) == (None, None)
    assert axis_ends(runs, Tag("drift")) == (None, 1.0)


def test_null_data_have_no_bar():
    values = {member: 0.1 for member in measured().values[Tag("ev")]}
    run = replace(measured(), values={Tag("ev"): values, Tag("ev", "gaussian"): values}, nulls=("gaussian",))
    assert [chart.name for chart in headline_charts([run])] == ["ev"]


def test_what_is_withheld_of_all_has_no_bar():
    run = measured()
    run = replace(run, values=run.values | {Tag("error"): dict.fromkeys(run.values[Tag("error")])})
    assert [chart.name for chart in headline_charts([run])] == ["ev", "speed"]


def test_what_another_run_lacks_is_still_an_sae():
    run = measured()
    other = {Member("loose", 0): 0.7}
    beside = replace(run, values={Tag("ev"): other}, fingerprints=dict.fromkeys(other, "y"))
    for runs in ([run, beside], [beside, run]):
        names = ("trained", "loose", "dense_probe")
        assert [is_reference(runs, Tag("ev"), name) for name in names] == [False, False, True]
        (chart,) = (chart for chart in headline_charts(runs) if chart.name == "ev")
        assert chart.references == ["dense_probe"]
