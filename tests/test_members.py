import pytest

from sae_lightning.members import LoggedName, Member, Tag, by_part, in_order, policy_styles, size_and_policy

MEMBERS = [Member("trained", 0), Member("soft_frozen_decoder", -3), Member("pca", 0, "early"), Member("x16", 12, "a.b")]


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_comes_back_from_both_of_its_texts(member):
    assert Member.parse(str(member)) == member
    name = LoggedName.of("val", "fvu", member)
    assert LoggedName.parse(str(name)) == name
    assert name.tag == Tag("fvu", member.part)


@pytest.mark.parametrize("text", ["trained", "trained/zero", "a/b/c/0", "", "trained/0/"])
def test_other_text_is_no_member(text):
    with pytest.raises(ValueError, match="expected the key of an SAE"):
        Member.parse(text)


@pytest.mark.parametrize("name", ["train/learning_rate", "epoch", "lr-Adam", "other/fvu/trained/0", "val/a/b/c/0"])
def test_other_logged_values_have_no_member(name):
    assert LoggedName.parse(name) is None


def test_the_floor_is_a_curve_of_its_own():
    floor = LoggedName.parse("test/fvu@early/floor")
    assert (floor.member, floor.tag, floor.chart, floor.folder) == (
        None,
        Tag("fvu", "early"),
        "test/fvu@early",
        "floor",
    )


def test_members_are_grouped_by_what_they_read():
    early = [Member("trained", 0, "early"), Member("untrained", 0, "early")]
    late = Member("trained", 0, "late")
    assert by_part([early[0], late, early[1]]) == {"early": early, "late": [late]}


def test_policies_have_one_order():
    policies = ["x16", "pca", "frozen_encoder", "x2", "untrained", "trained", "frozen_decoder", "trained"]
    assert in_order(policies) == ["trained", "frozen_decoder", "frozen_encoder", "untrained", "pca", "x2", "x16"]


def test_a_baseline_of_a_family_is_named_drawn_and_placed_as_what_it_is():
    names = ["x8_frozen_encoder", "x16", "x8", "x8_soft_frozen_decoder", "x16_frozen_encoder", "x2"]
    sizes = ["x2", "x8", "x8_soft_frozen_decoder", "x8_frozen_encoder", "x16", "x16_frozen_encoder"]
    assert in_order(names) == sizes
    assert size_and_policy("x8_soft_frozen_decoder") == ("x8", "soft_frozen_decoder")
    styles = policy_styles(names)
    assert styles["x8_frozen_encoder"] == policy_styles(["frozen_encoder"])["frozen_encoder"]
    assert len({(style.colour, style.marker) for style in styles.values()}) == len(names)
    mine = policy_styles(["frozen_decoder", "my_frozen_decoder"])  # which is no size
    assert mine["my_frozen_decoder"] != mine["frozen_decoder"]


def test_policies_differ_in_colour_and_in_marker_or_line():
    styles = policy_styles(
        ["trained", "frozen_decoder", "soft_frozen_decoder", "frozen_encoder", "untrained", "oracle"]
    )
    assert len({style.colour for style in styles.values()}) == len(styles)
    assert len({(style.marker, str(style.line)) for style in styles.values()}) == len(styles)
    others = policy_styles(["a", "b", "c", "d", "e", "f"])
    assert len({(style.colour, style.marker) for style in others.values()}) == len(others)
