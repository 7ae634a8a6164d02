import numpy as np
import pytest

from sae_lightning.members import Member, Tag
from sae_lightning.metric import undescribed
from sae_lightning.runs.items import MetricItems
from sae_lightning.runs.measurements import Measurements
from sae_lightning.verdict import decide, verdict_as_json, verdict_table


def run(metrics, floors=None, better=None, items=None):
    """Values by metric and policy, one for each seed from 0 or by seed."""
    values = {
        Tag(name): {
            Member(policy, seed): value
            for policy, seeds in policies.items()
            for seed, value in (seeds if isinstance(seeds, dict) else dict(enumerate(seeds))).items()
        }
        for name, policies in metrics.items()
    }
    ways = better or dict.fromkeys(metrics, "higher")
    return Measurements(
        values,
        {Tag(name): floor for name, floor in (floors or {}).items()},
        {name: undescribed(name, way) for name, way in ways.items()},
        {Tag(name): of_metric for name, of_metric in (items or {}).items()},
    )


def only(runs):
    (comparison,) = decide(runs)
    return comparison


def test_a_clear_difference_beats_and_its_opposite_loses():
    values = {"trained": [0.9, 0.91, 0.92], "frozen_decoder": [0.6, 0.61, 0.62]}
    comparison = only([run({"ev": values}, {"ev": 0.0})])
    assert (comparison.verdict, comparison.n_seeds, comparison.n_items) == ("beats", 3, 0)
    assert comparison.difference.mean == pytest.approx(0.3)
    assert comparison.share == pytest.approx(0.61 / 0.91)
    assert only([run({"ev": values}, better={"ev": "lower"})]).verdict == "loses"


def test_seeds_are_paired_by_name():
    """Unpaired, the spread between seeds would hide the difference."""
    values = {"trained": {0: 0.1, 1: 0.5, 2: 0.9}, "frozen_decoder": {2: 0.8, 0: 0.01, 1: 0.4}}
    assert only([run({"ev": values})]).verdict == "beats"


def test_a_difference_within_the_spread_is_unclear():
    assert only([run({"ev": {"trained": [0.9, 0.7, 0.8], "b": [0.75, 0.85, 0.78]}})]).verdict == "unclear"


def test_one_seed_without_items_is_unknown():
    comparison = only([run({"ev": {"trained": [0.9], "b": [0.1]}})])
    assert comparison.verdict == "unknown"
    assert verdict_as_json([comparison], [run({"ev": {}})])["metrics"]["ev"]["baselines"]["b"]["interval"] == [
        None,
        None,
    ]


def paired_items(rng, means, n=200, spread=0.1):
    shared = rng.normal(0, 1, n)
    return MetricItems(
        {member: (shared + mean + rng.normal(0, spread, n), np.ones(n)) for member, mean in means.items()}, paired=True
    )


def test_one_seed_is_compared_over_paired_items():
    items = paired_items(np.random.default_rng(0), {Member("trained", 0): 0.1, Member("b", 0): 0.0})
    values = {policy: [float(items.members[Member(policy, 0)][0].mean())] for policy in ("trained", "b")}
    comparison = only([run({"ev": values}, items={"ev": items})])
    assert (comparison.verdict, comparison.n_seeds, comparison.n_items) == ("beats", 1, 200)
    assert comparison.difference.mean == pytest.approx(values["trained"][0] - values["b"][0])
    unpaired = only([run({"ev": values}, items={"ev": MetricItems(items.members, paired=False)})])
    assert unpaired.verdict == "unclear"
    assert "one seed" in verdict_table([comparison])


def test_items_that_are_not_the_same_leave_the_seeds():
    rng = np.random.default_rng(0)
    own = {Member(policy, seed): (rng.normal(size=9), np.ones(9)) for policy in ("trained", "b") for seed in (0, 1)}
    own[Member("b", 1)] = (rng.normal(size=7), np.ones(7))
    comparison = only(
        [run({"ev": {"trained": [1.0, 2.0], "b": [0.0, 1.0]}}, items={"ev": MetricItems(own, paired=True)})]
    )
    assert (comparison.n_seeds, comparison.n_items) == (2, 0)


def test_every_trained_seed_stands_against_the_one_reference_of_its_run():
    comparison = only([run({"ev": {"trained": [0.9, 0.91, 0.92], "pca": [0.5]}})])
    assert (comparison.n_seeds, comparison.verdict) == (3, "beats")


def test_runs_of_one_sae_each_are_paired_by_seed():
    runs = [run({"ev": {"trained": [0.9, 0.8]}}), run({"ev": {"frozen_decoder": [0.5, 0.41]}})]
    comparison = only(runs)
    assert comparison.n_seeds == 2
    assert comparison.difference.mean == pytest.approx(0.395)


def test_values_that_are_missing_are_left_out():
    assert decide([run({"ev": {"trained": [None], "b": [0.1]}})]) == []
    assert only([run({"ev": {"trained": [0.5, None, 0.6], "b": [0.1, 0.2, 0.21]}})]).n_seeds == 2


def test_the_share_needs_a_trained_sae_above_the_floor():
    assert only([run({"ev": {"trained": [0.1, 0.1], "b": [0.3, 0.3]}}, {"ev": 0.2})]).share is None
    dead = only([run({"dead": {"trained": [0.2, 0.2], "b": [0.6, 0.6]}}, {"dead": 1.0}, {"dead": "lower"})])
    assert dead.share == pytest.approx(0.5)


def test_the_table_counts_what_each_baseline_says():
    values = {"trained": [0.9, 0.91, 0.92], "b": [0.6, 0.61, 0.62], "c": [0.9, 0.95, 0.9]}
    text = verdict_table(decide([run({"ev": values, "l": values}, {"ev": 0.0}, {"ev": "higher", "l": "lower"})]))
    assert "b: the trained SAE beats it on 1, loses on 1" in text
    assert "c: the trained SAE is unclear on 2" in text
