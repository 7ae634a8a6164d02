import numpy as np

from sae_lightning.members import Member, Tag
from sae_lightning.metric import Metric, Question
from sae_lightning.runs.items import MetricItems
from sae_lightning.runs.measurements import Measurements, in_order

FIRST, SECOND = Question("a", "First?", 1), Question("b", "Second?", 2)
METRICS = {
    "l0": Metric("l0", "Active latents", SECOND),
    "fvu": Metric("fvu", "Unexplained", FIRST, "lower"),
}
SIZES = {f"x{n}": [f"x{n}", "trained"] for n in (1, 16)} | {"x16_frozen_decoder": ["x16", "frozen_decoder"]}


def values(*policies, part=""):
    return {Member(policy, 0, part): float(number) for number, policy in enumerate(policies)}


def test_metrics_stand_in_the_order_of_their_questions():
    tags = [Tag("mine"), Tag("l0"), Tag("fvu", "late"), Tag("fvu", "early")]
    measured = Measurements(dict.fromkeys(tags, {}), {}, METRICS)
    assert in_order([measured], tags) == [Tag("fvu", "late"), Tag("fvu", "early"), Tag("l0"), Tag("mine")]


def test_noise_has_no_better_way_and_the_unknown_a_plain_name():
    measured = Measurements({}, {}, METRICS, nulls=("gaussian",))
    assert measured.better(Tag("fvu")) == measured.better(Tag("fvu", "early")) == "lower"
    assert measured.better(Tag("fvu", "gaussian")) is None
    assert measured.label(Tag("fvu", "early")) == "Unexplained (early)"
    assert measured.label(Tag("of_my_own")) == "Of my own"


def test_a_family_becomes_a_panel_for_each_size():
    tag = Tag("fvu", "early")
    members = values("x1", "x16", "x16_frozen_decoder", "pca", part="early")
    items = {member: (np.array([value, value + 1]), np.ones(2)) for member, value in members.items()}
    family = Measurements(
        {tag: members},
        {tag: 1.0},
        METRICS,
        {tag: MetricItems(items, paired=True)},
        ("noise",),
        SIZES,
        fingerprints={member: member.policy for member in members if member.policy != "pca"},
        inactive=frozenset(member for member in members if member.policy == "x16_frozen_decoder"),
    )
    sized = family.by_size()
    small, large = Tag("fvu", "early x1"), Tag("fvu", "early x16")
    assert list(sized.values) == [small, large]
    assert sized.by_policy(small) == {"trained": {0: 0.0}, "pca": {0: 3.0}}
    assert sized.by_policy(large) == {"trained": {0: 1.0}, "frozen_decoder": {0: 2.0}, "pca": {0: 3.0}}
    assert sized.floors == {small: 1.0, large: 1.0}
    own = sized.items[large]
    assert {member.policy: fractions[0][0] for member, fractions in own.members.items()} == {
        "trained": 1, "frozen_decoder": 2, "pca": 3,
    }  # fmt: skip
    assert own.paired
    assert sized.better(Tag("fvu", "noise x1")) is None
    assert sized.by_size() is sized
    assert sized.fingerprints == {
        Member("trained", 0, "early x1"): "x1",
        Member("trained", 0, "early x16"): "x16",
        Member("frozen_decoder", 0, "early x16"): "x16_frozen_decoder",
    }
    assert sized.inactive == {Member("frozen_decoder", 0, "early x16")}
    assert (sized.is_reference("pca"), sized.is_reference("frozen_decoder")) == (True, False)


def test_each_size_has_the_floor_and_the_repeats_of_its_own_members():
    tag = Tag("fvu")
    members = values("x1", "x16", "x16_frozen_decoder")
    own = {member: 10.0 + value for member, value in members.items()}
    repeats = {member: (value, value + 1) for member, value in members.items()}
    family = Measurements(
        {tag: members}, {tag: 11.0}, METRICS, sizes=SIZES, member_floors={tag: own}, repeats={tag: repeats}
    )
    assert (family.floor(tag), family.floor(tag, "x1"), family.floor(Tag("l0"))) == (11.0, 10.0, None)
    sized = family.by_size()
    small, large = Tag("fvu", "x1"), Tag("fvu", "x16")
    assert sized.floors == {small: 10.0, large: 11.5}
    assert (sized.floor(large, "trained"), sized.floor(large, "frozen_decoder")) == (11.0, 12.0)
    assert sized.repeats[small] == {Member("trained", 0, "x1"): (0.0, 1.0)}
    assert family.by_size().member_floors[small] == {Member("trained", 0, "x1"): 10.0}


def test_a_member_that_is_left_out_is_left_out_of_everything():
    tag = Tag("fvu")
    first, second = Member("trained", 0), Member("trained", 1)
    both = {first: 1.0, second: 2.0}
    items = MetricItems({member: (np.ones(2), np.ones(2)) for member in both}, paired=True)
    measured = Measurements(
        {tag: both}, {}, METRICS, {tag: items}, member_floors={tag: both}, repeats={tag: {first: (1.0, 1.0)}}
    )
    rest = measured.without({first})
    assert (rest.values, rest.member_floors, rest.repeats) == ({tag: {second: 2.0}}, {tag: {second: 2.0}}, {})
    assert list(rest.items[tag].members) == [second]
    assert measured.without(()) is measured


def test_a_published_sae_with_its_controls_is_a_group_in_which_it_is_the_trained_one():
    kinds = {"a": ("a", "trained"), "a_random": ("a", "random"), "b": ("b", "trained"), "b_random": ("b", "random")}
    kinds |= {"trained": ("remake", "trained")}
    tags = {Tag("fvu", part): values(*kinds, part=part) for part in ("", "gaussian")}
    published = {"a": "/saes/a", "b": "/saes/b"}
    clauses = {"a_random": "chance", "b_random": "chance"}
    run = Measurements(
        tags, {}, METRICS, nulls=("gaussian",), sizes=kinds, references=published, controls=clauses
    ).by_size()
    assert run.values[Tag("fvu", "a")] == {Member("trained", 0, "a"): 0.0, Member("random", 0, "a"): 1.0}
    assert run.values[Tag("fvu", "remake")] == {Member("trained", 0, "remake"): 4.0}
    assert run.reference_parts == {"a": "a", "b": "b", "gaussian a": "a", "gaussian b": "b"}
    assert (run.references, run.controls) == (published, {"random": "chance"})
