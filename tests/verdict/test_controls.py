"""A published SAE against its controls: nothing is paired but items, and the SAE has to be no draw of the control."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from sae_lightning.members import Member, Tag
from sae_lightning.metric import undescribed
from sae_lightning.runs.items import MetricItems
from sae_lightning.runs.measurements import Measurements
from sae_lightning.verdict import decide, verdict_as_json
from sae_lightning.verdict.comparison import Comparison
from sae_lightning.verdict.control_table import control_table

EV = Tag("ev")
AT = "published"


def measured(
    values: Mapping[str, Sequence[float]],
    items: Mapping[str, Sequence[np.ndarray]] | None = None,
    paired: bool = True,
    floor: float | None = None,
    references: Sequence[str] = (AT,),
) -> Measurements:
    """Return a run of published SAEs, with controls named after each where there are several."""
    sizes = {name: (name, "trained") for name in references}
    for policy in values:
        if policy not in references:
            own = next((name for name in references if policy.startswith(f"{name}_")), references[0])
            sizes[policy] = (own, policy.removeprefix(f"{own}_"))
    fractions = {
        Member(policy, draw): (y, np.ones(len(y)))
        for policy, draws in (items or {}).items()
        for draw, y in enumerate(draws)
    }
    return Measurements(
        {EV: {Member(policy, draw): value for policy, own in values.items() for draw, value in enumerate(own)}},
        {EV: floor},
        {"ev": undescribed("ev", "higher")},
        {EV: MetricItems(fractions, paired)} if items else {},
        sizes=sizes,
        references={name: f"/saes/{name}" for name in references},
        controls={policy: f"what {policy} does" for policy in values if policy not in references},
    ).by_size()


def of_items(items: Mapping[str, Sequence[np.ndarray]], **options) -> Measurements:
    """Return a run in which every value is the mean of its items."""
    return measured({policy: [float(y.mean()) for y in draws] for policy, draws in items.items()}, items, **options)


def drawn(rng: np.random.Generator, n: int, n_items: int, common: np.ndarray | float = 0.0) -> list[np.ndarray]:
    """Return items of draws, each with an effect of its own."""
    return [common + rng.normal(0, 0.1) + rng.normal(0, 0.3, n_items) for _ in range(n)]


def only(run: Measurements) -> Comparison:
    (comparison,) = decide([run])
    return comparison


def test_another_draw_of_its_controls_is_seldom_called_better():
    """By the interval of the mean of the draws it would be in 8 of 100 cases, over items alone in 25."""
    rng, rounds, better = np.random.default_rng(0), 400, 0
    for _ in range(rounds):
        common = rng.normal(0, 1, 40)
        items = {AT: drawn(rng, 1, 40, common)} | {f"c{number}": drawn(rng, 5, 40, common) for number in range(4)}
        words = {comparison.verdict for comparison in decide([of_items(items)])}
        better += "beats" in words
    assert better / rounds < 0.05


def test_without_items_the_draws_alone_decide_as_seldom():
    rng, rounds, better = np.random.default_rng(1), 400, 0
    for _ in range(rounds):
        values = {AT: rng.normal(0, 1, 1)} | {f"c{number}": rng.normal(0, 1, 5) for number in range(4)}
        better += "beats" in {one.verdict for one in decide([measured(values)])}
    assert 0 < better / rounds < 0.05


def test_a_real_difference_is_found():
    rng = np.random.default_rng(2)
    items = {AT: [y + 3 for y in drawn(rng, 1, 40)], "random_encoder": drawn(rng, 3, 40)}
    assert only(of_items(items)).verdict == "beats"
    assert (
        only(of_items({AT: items["random_encoder"][:1], "random_encoder": drawn(rng, 3, 40, 3.0)})).verdict == "loses"
    )


def test_the_interval_is_that_of_one_more_draw():
    draws = [0.40, 0.42, 0.41]
    comparison = only(measured({AT: [0.5], "random_encoder": draws}))
    half = stats.t.ppf(0.975, 2) * np.std(draws, ddof=1) * (1 + 1 / 3) ** 0.5
    assert comparison.difference.mean == pytest.approx(0.09)
    assert comparison.difference.half == pytest.approx(half)
    assert (comparison.n_draws, comparison.n_items, comparison.verdict) == (3, 0, "beats")
    assert comparison.notes == ["over 3 draws of the control"]


def test_items_add_what_varies_between_them_in_the_mean_over_draws():
    rng = np.random.default_rng(3)
    items = {AT: drawn(rng, 1, 30), "random_encoder": drawn(rng, 3, 30)}
    comparison = only(of_items(items))
    y = items[AT][0] - np.mean(items["random_encoder"], axis=0)
    draws, rest = comparison.difference.parts
    assert draws == (pytest.approx(np.var([y.mean() for y in items["random_encoder"]], ddof=1) * 4 / 3), 2)
    assert rest == (pytest.approx(y.var(ddof=1) / 30), 29)
    assert (comparison.n_items, comparison.notes) == (30, ["over 3 draws of the control and evaluation items"])


def test_the_order_of_draws_does_not_matter():
    """As it would if the SAE, which has seed 0, were paired with the draw 0."""
    rng = np.random.default_rng(4)
    one, draws = drawn(rng, 1, 30), drawn(rng, 3, 30)
    first, last = (only(of_items({AT: one, "random_encoder": own})) for own in (draws, draws[::-1]))
    assert first.difference.half == pytest.approx(last.difference.half)
    assert first.difference.mean == pytest.approx(last.difference.mean)


def test_a_control_of_one_draw_is_compared_over_items_alone():
    rng = np.random.default_rng(5)
    items = {AT: drawn(rng, 1, 50), "principal_components": drawn(rng, 1, 50)}
    comparison = only(of_items(items))
    expected = stats.ttest_1samp(items[AT][0] - items["principal_components"][0], 0).confidence_interval(0.95)
    assert (comparison.difference.low, comparison.difference.high) == pytest.approx((expected.low, expected.high))
    assert (comparison.n_draws, comparison.notes) == (1, ["over evaluation items"])
    assert only(measured({AT: [0.9], "principal_components": [0.1]})).verdict == "unknown"


def test_items_that_are_not_the_same_add_those_of_the_published_sae():
    rng = np.random.default_rng(6)
    items = {AT: drawn(rng, 1, 30), "random_encoder": drawn(rng, 3, 30)}
    several = only(of_items(items, paired=False))
    own = items[AT][0].var(ddof=1) / 30
    assert several.difference.parts[1:] == ((pytest.approx(own), 29),)
    single = only(of_items({AT: items[AT], "principal_components": items["random_encoder"][:1]}, paired=False))
    other = items["random_encoder"][0].var(ddof=1) / 30
    assert single.difference.parts == ((pytest.approx(own), 29), (pytest.approx(other), 29))


def test_evaluator_seeds_add_their_part_and_stand_alone_where_nothing_else_varies():
    values = {AT: [0.9], "random_encoder": [0.4, 0.42, 0.41], "principal_components": [0.5]}
    run = measured(values)
    shifts = (0.01, -0.01, 0.02, -0.02)
    repeats = {
        member: tuple(value + (shift if member.policy == "trained" else 0) for shift in shifts)
        for member, value in run.values[Tag("ev", AT)].items()
    }
    decided = decide([replace(run, repeats={Tag("ev", AT): repeats})])
    by_name = {comparison.baseline: comparison for comparison in decided}
    part = (pytest.approx(np.var(shifts, ddof=1) / 4), 3)
    assert by_name["random_encoder"].difference.parts[1:] == (part,)
    alone = by_name["principal_components"]
    assert (alone.difference.parts, alone.verdict, alone.notes) == ((part,), "beats", ["over evaluator seeds"])


def test_intervals_hold_for_all_controls_of_the_group_and_random_baselines_for_theirs():
    run = measured({AT: [0.9], "random_encoder": [0.4, 0.42, 0.41], "b": [0.1, 0.11], "principal_components": [0.5]})
    remade = {Member("trained", seed, "remake"): 0.8 + seed / 100 for seed in (0, 1, 2)}
    remade |= {Member("frozen_decoder", seed, "remake"): 0.7 + seed**2 / 100 for seed in (0, 1, 2)}
    both = replace(run, values={**run.values, Tag("ev", "remake"): remade})
    compared = {comparison.baseline: comparison for comparison in decide([both])}
    assert {name: one.difference.n_compared for name, one in compared.items()} == {
        "random_encoder": 3,
        "b": 3,
        "principal_components": 3,
        "frozen_decoder": 1,
    }
    own = compared["frozen_decoder"]
    assert (own.published, own.subject, own.n_seeds, own.n_draws) == ("", "the trained SAE", 3, 0)


def test_what_is_no_control_is_compared_one_by_one():
    """A reference method of an evaluator, which every group has beside it."""
    run = measured({AT: [0.9], "random_encoder": [0.4, 0.42, 0.41]})
    tag = Tag("ev", AT)
    run = replace(run, values={tag: {**run.values[tag], Member("dense_probe", 0, AT): 0.95}})
    (other,) = [one for one in decide([run]) if one.baseline == "dense_probe"]
    assert (other.is_random, other.n_draws, other.published, other.difference.n_compared) == (False, 0, AT, 1)
    assert other.verdict == "unknown"


def test_a_reference_without_controls_stays_a_column():
    values = {Member("trained", seed): 0.8 + seed / 100 for seed in (0, 1)} | {Member(AT, 0): 0.7}
    run = Measurements({EV: values}, {}, {"ev": undescribed("ev", "higher")}, references={AT: "/saes/a"})
    comparison = only(run.by_size())
    assert (comparison.baseline, comparison.published, comparison.n_seeds) == (AT, "", 2)
    assert not comparison.is_random


def test_two_draws_are_said_to_have_one_degree_of_freedom():
    comparison = only(measured({AT: [0.9], "random_encoder": [0.4, 0.42]}))
    assert comparison.notes == ["two draws: one degree of freedom", "over 2 draws of the control"]
    text = control_table([comparison], {})
    assert "two draws: one degree of freedom" in text


def test_draws_that_do_not_vary_say_nothing():
    comparison = only(measured({AT: [0.9], "random_encoder": [0.4, 0.4, 0.4]}))
    assert comparison.verdict == "unclear"
    assert comparison.notes == ["no variation between draws, so nothing says how sure it is"]


def test_a_control_measured_by_several_runs_has_the_draws_of_all():
    one = measured({AT: [0.9], "random_encoder": [0.4, 0.42]})
    again = measured({AT: [0.9], "random_encoder": [0.41, 0.43]})
    (comparison,) = decide([one, again])
    assert (comparison.n_draws, comparison.n_seeds) == (4, 1)
    assert comparison.difference.parts[0][1] == 3


def with_latents(l0: float = 31.27, dead: float = 0.02, ev: float = 0.2, probe: float = 0.8125) -> Measurements:
    """Return a run with a control that scores as given beside an SAE of 31.27, 0.02, 0.9 and 0.8125."""
    numbers = {"ev": (0.9, ev), "l0": (31.27, l0), "dead_fraction": (0.02, dead), "probe": (0.8125, probe)}
    values = {
        Tag(name, AT): {Member("trained", 0, AT): own, Member("permuted_decoder", 0, AT): other}
        for name, (own, other) in numbers.items()
    }
    ways = {"ev": "higher", "l0": None, "dead_fraction": "lower", "probe": "higher"}
    return Measurements(
        values,
        {},
        {name: undescribed(name, way) for name, way in ways.items()},
        references={AT: "/saes/a"},
        controls={"permuted_decoder": "pairs"},
        reference_parts={AT: AT},
    )


def test_metrics_of_latents_that_a_control_shares_are_left_out():
    same = "it has the latents of the published SAE, and this metric sees nothing else"
    reasons = {one.tag.metric: one.inactive for one in decide([with_latents()])}
    assert reasons == {"ev": "", "dead_fraction": same, "probe": same}


@pytest.mark.parametrize("other", [{"l0": 31.28}, {"dead": 0.03}])
def test_a_probe_that_agrees_by_chance_is_not_left_out(other: dict[str, float]):
    assert [one.inactive for one in decide([with_latents(**other)])] == [""] * 3


def test_l0_of_a_topk_proves_nothing():
    run = with_latents()
    values = {tag: dict.fromkeys(own, 32.0) if tag.metric == "l0" else own for tag, own in run.values.items()}
    assert [one.inactive for one in decide([replace(run, values=values)])] == [""] * 3


def test_the_published_sae_itself_is_no_control():
    run = with_latents(ev=0.9)
    prints = dict.fromkeys((Member("trained", 0, AT), Member("permuted_decoder", 0, AT)), "same")
    assert {one.inactive for one in decide([replace(run, fingerprints=prints)])} == {
        "equal to the published SAE to the bit"
    }


def test_no_text_speaks_of_seeds_or_of_a_trained_sae():
    rng = np.random.default_rng(7)
    items = {AT: drawn(rng, 1, 30), "random_encoder": drawn(rng, 3, 30), "principal_components": drawn(rng, 1, 30)}
    run = of_items(items, floor=-1.0)
    comparisons = decide([run])
    text = " ".join(control_table(comparisons, run.controls).split())
    assert "the published SAE against" in text
    assert "(controls for: what random_encoder does)" in text
    assert "for the 2 controls of a metric at once" in text
    assert "over 3 draws of a control and evaluation items" in text
    entry = verdict_as_json(comparisons, [run])
    assert "rule" not in entry
    own = entry["metrics"]["ev@published"]
    assert own["reference"] == {"name": AT, "where": "/saes/published", "value": pytest.approx(items[AT][0].mean())}
    assert (own["baselines"]["random_encoder"]["n_draws"], "trained" in own) == (3, False)
    said = [text, entry["control_rule"], *(note for one in comparisons for note in one.notes)]
    assert not any("seed" in words or "the trained SAE" in words for words in said)


def test_several_published_saes_are_called_by_their_names():
    values = {"a": [0.9], "b": [0.3], "a_random_encoder": [0.4, 0.42, 0.41], "b_random_encoder": [0.5, 0.52, 0.51]}
    comparisons = decide([measured(values, references=("a", "b"))])
    said = {(one.published, one.subject, str(one.tag), one.baseline): one.verdict for one in comparisons}
    assert said == {("a", "a", "ev@a", "random_encoder"): "beats", ("b", "b", "ev@b", "random_encoder"): "loses"}
