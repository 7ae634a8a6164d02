"""A chart shows the interval that decides, and none where there is nothing to decide by."""

from dataclasses import replace

import pytest

from sae_lightning.figures.dots import MARKS
from sae_lightning.figures.verdict import verdict_chart
from sae_lightning.members import Member, Tag
from sae_lightning.metric import undescribed
from sae_lightning.runs import Measurements
from sae_lightning.verdict import WORDS, decide

EV = Tag("ev")


def measured(**policies: list[float]) -> Measurements:
    values = {Member(name, seed): value for name, seeds in policies.items() for seed, value in enumerate(seeds)}
    return Measurements({EV: values, Tag("f1"): values}, {EV: 0.0}, {"ev": undescribed("ev", "higher")})


def rows_and_note(run: Measurements):
    comparisons = decide([run])
    chart = verdict_chart([run], comparisons, EV)
    return {row.policy: row for row in chart.rows}, chart.note, comparisons


def test_every_word_has_a_mark():
    assert set(MARKS) == set(WORDS)
    assert len(set(MARKS.values())) == len(MARKS)


def test_the_bar_is_the_interval_of_the_verdict():
    rows, note, comparisons = rows_and_note(
        measured(trained=[0.9, 0.8, 0.85], frozen_decoder=[0.5, 0.45, 0.46], frozen_encoder=[0.7, 0.9, 0.8])
    )
    assert [comparison.difference.n_compared for comparison in comparisons] == [2, 2]
    for comparison in comparisons:
        row = rows[comparison.baseline]
        assert row.verdict == comparison.verdict
        assert row.interval == (
            pytest.approx(0.85 - comparison.difference.high),
            pytest.approx(0.85 - comparison.difference.low),
        )
    assert (rows["frozen_decoder"].verdict, rows["frozen_encoder"].verdict) == ("beats", "unclear")
    assert not note


def test_a_published_sae_stands_where_the_trained_one_would():
    own = measured(published=[0.9], random_encoder=[0.5, 0.52, 0.51], principal_components=[0.95])
    sizes = {name: ("published", name) for name in ("random_encoder", "principal_components")}
    own = replace(own, sizes=sizes | {"published": ("published", "trained")})
    run = replace(own, references={"published": "/a"}, controls=dict.fromkeys(sizes, "what it is")).by_size()
    comparisons = decide([run])
    chart = verdict_chart([run], comparisons, Tag("ev", "published"))
    assert [row.policy for row in chart.rows] == ["published", "random_encoder", "principal_components"]
    assert [row.verdict for row in chart.rows] == ["", "beats", "unknown"]
    assert (chart.compared, chart.table.head[-2:]) == ("published", ["draws", "published SAE"])
    assert "Random encoder 0.5100, the published SAE beats" in chart.alt_text


def test_what_does_not_vary_has_no_bar_and_says_why():
    rows, note, _ = rows_and_note(
        measured(
            trained=[0.9, 0.8], frozen_decoder=[0.5, 0.4], soft_frozen_decoder=[0.9, 0.8], frozen_encoder=[0.7, 0.1]
        )
    )
    assert [rows[name].interval is None for name in ("frozen_decoder", "soft_frozen_decoder", "frozen_encoder")] == [
        True,
        True,
        False,
    ]
    assert "Frozen Decoder: no variation between seeds, so nothing says how sure it is." in note
    assert "Soft-Frozen Decoder: its constraint never acted: equal to the trained SAE to the bit." in note
    assert "Soft-Frozen Decoder 100%" not in note


def test_a_chart_says_what_its_evaluator_can_tell():
    run = measured(trained=[0.9, 0.8], frozen_decoder=[0.5, 0.41])
    repeats = {member: (value - 0.01, value + 0.01) for member, value in run.values[EV].items()}
    _, note, _ = rows_and_note(replace(run, repeats={EV: repeats}))
    assert "Two measurements of one SAE, with an evaluator seed each, may differ by 0.056." in note
