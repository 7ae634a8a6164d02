from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

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
    values = {"trained": [0.9, 0.91, 0.92], "frozen_decoder": [0.601, 0.61, 0.619]}
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


def test_a_share_of_next_to_nothing_is_no_number_of_six_digits():
    def share(trained, baseline):
        return only([run({"ev": {"trained": [trained] * 2, "b": [baseline] * 2}}, {"ev": 0.2})]).share_in_percent

    assert share(0.2001, 0.9) == ">999%"
    assert share(0.2001, -0.9) == "<-999%"
    assert share(0.3, 0.25) == "50%"
    assert share(0.1, 0.3) == ""


def test_the_share_needs_a_trained_sae_above_the_floor():
    assert only([run({"ev": {"trained": [0.1, 0.1], "b": [0.3, 0.3]}}, {"ev": 0.2})]).share is None
    dead = only([run({"dead": {"trained": [0.2, 0.2], "b": [0.6, 0.6]}}, {"dead": 1.0}, {"dead": "lower"})])
    assert dead.share == pytest.approx(0.5)


def test_the_table_counts_what_each_baseline_says():
    values = {"trained": [0.9, 0.91, 0.92], "b": [0.6, 0.612, 0.62], "c": [0.9, 0.95, 0.9]}
    text = verdict_table(decide([run({"ev": values, "l": values}, {"ev": 0.0}, {"ev": "higher", "l": "lower"})]))
    assert "b: the trained SAE beats it on 1, loses on 1" in text
    assert "c: the trained SAE is unclear on 2" in text


NOISE = {"trained": [0.9, 0.7, 0.8], "frozen_decoder": [0.75, 0.85, 0.78]}


def against(runs, baseline, tag="ev", **options):
    (comparison,) = [one for one in decide(runs, **options) if (one.baseline, one.tag.metric) == (baseline, tag)]
    return comparison


def test_the_word_follows_from_the_interval_that_is_shown():
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = {policy: list(rng.normal(0, 1, 3) + 2) for policy in ("frozen_decoder", "frozen_encoder", "b")}
        for one in decide([run({"ev": {"trained": list(rng.normal(0, 1, 3))} | values})]):
            low, high = one.difference.low, one.difference.high
            assert one.verdict == ("beats" if low > 0 else "loses" if high < 0 else "unclear")
            assert (one.difference.p < 0.05) == (one.verdict != "unclear")


def test_a_verdict_does_not_depend_on_what_else_was_measured():
    values = {"trained": [0.9, 0.8, 0.85], "frozen_decoder": [0.89, 0.786, 0.837]}
    alone = only([run({"ev": values})])
    assert alone.verdict == "beats"
    assert against([run({"ev": values} | {f"m{i}": NOISE for i in range(30)})], "frozen_decoder") == alone


def test_intervals_hold_for_all_random_baselines_of_the_experiment_at_once():
    """Their number is that of the panel: whether another one has a value of this metric does not count."""
    values = {"trained": [0.9, 0.8, 0.85], "frozen_decoder": [0.89, 0.784, 0.836], "pca": [0.2]}
    others = {"soft_frozen_decoder": [0.5, 0.61, 0.7], "frozen_encoder": [None] * 3, "untrained": [0.1, 0.2, 0.4]}
    alone = against([run({"ev": values})], "frozen_decoder")
    among = against([run({"ev": values | others})], "frozen_decoder")
    elsewhere = against([run({"ev": values, "l": dict.fromkeys(("trained", *others), [0.5] * 3)})], "frozen_decoder")
    assert [one.difference.n_compared for one in (alone, among, elsewhere)] == [1, 3, 3]
    assert (alone.verdict, among.verdict, elsewhere.verdict) == ("beats", "unclear", "unclear")
    assert among.difference == elsewhere.difference
    assert among.difference.half > alone.difference.half
    references = [against([run({"ev": values | others})], name) for name in ("pca", "untrained")]
    assert [one.difference.n_compared for one in references] == [1, 1], "they are no random baselines"
    assert not any(one.is_random for one in references)


def test_an_interval_of_no_width_is_no_certainty():
    """One latent of 768 in both of two seeds, and no difference in either: neither is known to be so in a third."""
    one_latent = {"trained": [0.2, 0.3], "frozen_decoder": [0.2 + 1 / 768, 0.3 + 1 / 768]}
    comparison = only([run({"dead": one_latent}, {"dead": 1.0}, {"dead": "lower"})])
    assert comparison.difference.half == pytest.approx(0, abs=1e-12)
    assert (comparison.verdict, comparison.varies) == ("unclear", False)
    assert comparison.notes == ["no variation between seeds, so nothing says how sure it is"]
    equal = {"trained": [0.25, 0.25], "frozen_decoder": [0.25, 0.25], "frozen_encoder": [0.3, 0.4]}
    assert against([run({"dead": equal, "other": NOISE})], "frozen_decoder", "dead").verdict == "unclear"
    assert "unclear +0.0000 [no variation]" in verdict_table(decide([run({"dead": equal, "other": NOISE})]))


def test_float32_rounding_is_no_variation():
    values = {"trained": [0.4337208, 0.4299978], "frozen_decoder": [0.4337208 - 1e-2, 0.4299978 - 1e-2 + 3e-8]}
    assert only([run({"ev": values})]).verdict == "unclear"


def test_a_count_varies_between_seeds_by_a_step_at_least():
    """Shares of 768 latents; of ten seeds one differs by one latent, and the others are equal."""
    step = 1 / 768
    trained = [number * step for number in (4, 7, 5, 4, 4, 9, 3, 4, 6, 5)]
    values = {"trained": trained, "frozen_decoder": [*(value + step for value in trained[:-1]), trained[-1]]}
    comparison = only([run({"dead": values}, {"dead": 1.0}, {"dead": "lower"})])
    assert comparison.difference.half == pytest.approx(stats.t.ppf(0.975, 9) * step * (1 / 2 / 10) ** 0.5)
    shifted = {
        policy: [value + 0.01 * (policy == "trained") * (seed + 1) for seed, value in enumerate(seeds)]
        for policy, seeds in values.items()
    }
    assert only([run({"dead": shifted})]).difference.half == pytest.approx(
        stats.t.ppf(0.975, 9) * np.std(np.subtract(*shifted.values()), ddof=1) / 10**0.5
    )


def test_equivalent_is_what_lies_within_the_margin():
    close = {"trained": [0.9, 0.8, 0.852], "frozen_decoder": [0.8991, 0.8012, 0.8513]}
    measured = run({"ev": close}, {"ev": 0.1})
    comparison = only([measured])
    assert (comparison.verdict, comparison.is_within_margin) == ("equivalent", True)
    assert comparison.margin == pytest.approx(0.05 * (np.mean(close["trained"]) - 0.1))
    assert against([measured], "frozen_decoder", margin=0.001).verdict == "unclear"
    assert only([run({"ev": close})]).verdict == "unclear", "without a floor there is no gain to take a share of"
    assert only([run({"ev": close}, {"ev": 0.9})]).verdict == "unclear", "the trained SAE is not above the floor"
    unsure = {"trained": [0.9, 0.2, 0.4], "frozen_decoder": [0.9001, 0.1998, 0.4]}
    assert only([run({"ev": unsure}, {"ev": 0.1})]).margin is None, "it is not clearly above the floor"
    worse = {"trained": [0.9, 0.8, 0.852], "frozen_decoder": [0.889, 0.7892, 0.8411]}
    comparison = only([run({"ev": worse}, {"ev": 0.1})])
    assert (comparison.verdict, comparison.is_within_margin) == ("beats", True), "clearly better, and by little"
    with pytest.raises(ValueError, match="margin 5.0: expected a share from 0 to below 1"):
        decide([measured], margin=5.0)


def test_the_margin_of_one_seed_is_judged_over_items():
    rng = np.random.default_rng(0)
    items = paired_items(rng, {Member("trained", 0): 0.5, Member("b", 0): 0.5}, n=4000, spread=0.01)
    values = {policy: [float(items.members[Member(policy, 0)][0].mean())] for policy in ("trained", "b")}
    assert only([run({"ev": values}, {"ev": 0.0}, items={"ev": items})]).verdict == "equivalent"
    assert only([run({"ev": values}, {"ev": 0.5}, items={"ev": items})]).verdict == "unclear"


def test_evaluator_seeds_enter_the_interval_and_stand_beside_the_metric():
    """All seeds are evaluated on the same draws, so that what these share is not in the spread between seeds."""
    values = {"trained": [0.9, 0.8, 0.85], "frozen_decoder": [0.86, 0.762, 0.811]}
    draws = [0.03, -0.02, 0.01, -0.02]
    repeats = {
        Member(policy, seed): tuple(value + (draw if policy == "trained" else -draw) for draw in draws)
        for policy, seeds in values.items()
        for seed, value in enumerate(seeds)
    }
    plain, noisy = run({"ev": values}), run({"ev": values})
    noisy = replace(noisy, repeats={Tag("ev"): repeats})
    assert only([plain]).verdict == "beats"
    comparison = only([noisy])
    assert comparison.verdict == "unclear"
    variance = np.var(2 * np.array(draws), ddof=1) / 4
    assert comparison.difference.parts[-1] == (pytest.approx(variance), 3)
    assert comparison.difference.half**2 == pytest.approx(
        only([plain]).difference.half ** 2 + variance * stats.t.ppf(0.975, 3) ** 2
    )
    entry = verdict_as_json([comparison], [noisy])["metrics"]["ev"]
    expected = stats.t.ppf(0.975, 18) * 2**0.5 * np.std(draws, ddof=1)
    assert entry["smallest_difference"] == pytest.approx(expected)
    assert verdict_as_json([only([plain])], [plain])["metrics"]["ev"]["smallest_difference"] is None
    text = verdict_table([comparison], noise={Tag("ev"): entry["smallest_difference"]})
    assert f"{expected:.5f}" in text
    assert "can tell: two measurements of the same" in text
    one_side = {member: own for member, own in repeats.items() if member.policy == "trained"}
    assert only([replace(plain, repeats={Tag("ev"): one_side})]) == only([plain])


def test_one_seed_with_repeats_alone_has_no_interval():
    """Evaluator seeds do not say how another training would vary."""
    measured = run({"ev": {"trained": [0.9], "b": [0.5]}})
    repeats = {Member(policy, 0): (value, value + 0.01) for policy, value in (("trained", 0.9), ("b", 0.5))}
    assert only([replace(measured, repeats={Tag("ev"): repeats})]).verdict == "unknown"


def test_each_policy_is_above_the_floor_of_its_own():
    values = {"trained": [0.9, 0.8], "b": [0.6, 0.7]}
    floors = {Member("trained", seed): 0.25 for seed in (0, 1)} | {Member("b", 0): 0.3, Member("b", 1): 0.4}
    comparison = only([replace(run({"ev": values}, {"ev": 0.0}), member_floors={Tag("ev"): floors})])
    assert (comparison.floor, comparison.baseline_floor) == (0.25, pytest.approx(0.35))
    assert comparison.share == pytest.approx((0.65 - 0.35) / (0.85 - 0.25))


def test_a_baseline_that_is_the_trained_sae_again_is_left_out_and_named():
    same = {"trained": [0.9, 0.8, 0.85], "soft_frozen_decoder": [0.9, 0.8, 0.85], "frozen_decoder": [0.6, 0.7, 0.62]}
    runs = [run({"ev": same, "f1": same, "l0": same}, better={"ev": "higher", "f1": "higher"})]
    comparison = against(runs, "soft_frozen_decoder")
    assert comparison.verdict == "inactive"
    assert comparison.notes == ["its constraint never acted: equal to the trained SAE to the bit"]
    assert against(runs, "frozen_decoder").difference.n_compared == 2, "the settings fix the number"
    text = " ".join(verdict_table(decide(runs)).split())
    assert "soft_frozen_decoder: left out, its constraint never acted: equal to the trained SAE to the bit" in text
    one_differs = same | {"soft_frozen_decoder": [0.9, 0.8, 0.86]}
    runs = [run({"ev": one_differs, "f1": same}, better={"ev": "higher", "f1": "higher"})]
    assert against(runs, "soft_frozen_decoder").verdict == "unclear"


def test_fingerprints_tell_equal_saes_from_saes_that_score_alike():
    same = {"trained": [0.9, 0.8], "soft_frozen_decoder": [0.9, 0.8]}
    measured = run({"ev": same, "f1": same})
    prints = {Member(policy, seed): f"{policy}{seed}" for policy in same for seed in (0, 1)}
    assert against([replace(measured, fingerprints=prints)], "soft_frozen_decoder").verdict == "unclear"
    equal = {member: str(member.seed) for member in prints}
    other = run({"ev": {"trained": [0.9, 0.8], "soft_frozen_decoder": [0.7, 0.75]}})
    assert against([replace(other, fingerprints=equal)], "soft_frozen_decoder").verdict == "inactive"


def test_a_constraint_that_no_direction_reached_is_named_too():
    values = {"trained": [0.9, 0.8], "soft_frozen_decoder": [0.9, 0.8001]}
    inactive = frozenset({Member("soft_frozen_decoder", 0), Member("soft_frozen_decoder", 1)})
    comparison = only([replace(run({"ev": values}), inactive=inactive)])
    assert comparison.inactive == "its constraint never acted: no direction reached the least cosine that it allows"
    only_one = replace(run({"ev": values}), inactive=frozenset({Member("soft_frozen_decoder", 1)}))
    assert only([only_one]).inactive == ""


def test_an_sae_that_had_not_converged_is_named():
    falls = {"trained": [0.001, 0.002], "frozen_decoder": [0.02, 0.03], "b": [0.01, 0.01]}
    values = {"trained": [0.9, 0.8], "frozen_decoder": [0.6, 0.61], "b": [0.5, 0.45]}
    runs = [run({"ev": values, "loss_fall": falls}, better={"ev": "higher", "loss_fall": None})]
    assert against(runs, "frozen_decoder").not_converged == ("frozen_decoder",)
    assert against(runs, "b").not_converged == ()
    assert "not converged: frozen_decoder" in against(runs, "frozen_decoder").notes
    assert "not converged: frozen_decoder; the training loss still fell by more" in verdict_table(decide(runs))


def test_two_seeds_are_said_to_have_one_degree_of_freedom():
    two = only([run({"ev": {"trained": [0.9, 0.8], "b": [0.6, 0.61]}})])
    assert two.notes == ["two seeds: one degree of freedom"]
    assert "two seeds: one degree of freedom" in verdict_table([two])
    assert only([run({"ev": {"trained": [0.9, 0.8, 0.7], "b": [0.6, 0.61, 0.58]}})]).notes == []
