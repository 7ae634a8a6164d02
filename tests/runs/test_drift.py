import pytest

from sae_lightning.members import Member, Tag
from sae_lightning.runs.drift import inactive_members
from sae_lightning.runs.metrics_lines import Validation

SOFT, TRAINED = Member("soft_frozen_decoder", 0), Member("trained", 0)
LOOSE = {"class_path": "sae_lightning.freeze.SoftFrozenDecoder", "init_args": {"min_cosine": 0.5}}


def validation(sizes=None, **least):
    values = {Member(policy, 0): cosine for policy, cosine in least.items()}
    return Validation(1, 1, 1.0, {Tag("cosine_to_start_min"): values}, {}, sizes=sizes or {})


@pytest.mark.parametrize(
    ("cosines", "policies", "expected"),
    [
        ((0.97, 0.95), None, {SOFT}),
        ((0.97, 0.8), None, set()),
        ((0.8, 0.97), None, set()),  # it acted once
        ((0.97, 0.8000004), None, set()),  # on the rim, but for rounding
        ((0.97, None), None, set()),
        ((0.7, 0.6), {"soft_frozen_decoder": LOOSE, "trained": None}, {SOFT}),
        ((0.7, 0.5), {"soft_frozen_decoder": LOOSE, "trained": None}, set()),
        ((0.97, 0.95), {"soft_frozen_decoder": {"class_path": "FrozenDecoder"}}, set()),
        ((0.97, 0.95), {"trained": None}, set()),  # of a name that the settings do not explain
    ],
)
def test_a_constraint_acts_where_a_direction_is_on_its_rim(cosines, policies, expected):
    validations = [validation(soft_frozen_decoder=cosine, trained=cosine) for cosine in cosines]
    assert inactive_members(validations, policies, None) == expected


def test_an_sae_alone_has_the_limit_of_its_own_policy():
    assert inactive_members([validation(soft_frozen_decoder=0.6)], None, LOOSE) == {SOFT}
    assert inactive_members([validation(soft_frozen_decoder=0.6)], None, None) == set()
    assert inactive_members([validation(trained=0.9)], None, None) == set()


def test_a_limit_of_one_freezes_and_is_never_out_of_reach():
    frozen = LOOSE | {"init_args": {"min_cosine": 1.0}}
    assert inactive_members([validation(soft_frozen_decoder=1.0)], None, frozen) == set()


def test_members_of_a_family_have_the_limit_of_what_they_are_at_their_size():
    sizes = {"x2": ["x2", "trained"], "x2_loose": ["x2", "loose"], "x4_loose": ["x4", "loose"]}
    validations = [validation(sizes, x2=0.9, x2_loose=0.9, x4_loose=0.5)]
    assert inactive_members(validations, {"loose": LOOSE}, None) == {Member("x2_loose", 0)}
    assert inactive_members([], {"loose": LOOSE}, None) == set()
