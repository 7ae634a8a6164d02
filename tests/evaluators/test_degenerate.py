"""SAEs of which no latent fires, beside one that works: no value is made up in silence.

One that has diverged reaches no evaluator: its validation is refused.
"""

import math
import warnings

import pytest
import torch
import toy_clip
from toy_clip import ToyClipData

from sae_lightning.datamodules import DecoderDirections
from sae_lightning.evaluators import (
    AttributeEditing,
    AttributeProbing,
    Drift,
    MetaLatents,
    Reconstruction,
    Recovery,
    SeedAgreement,
    Sparsity,
    ZeroShotRecovered,
)
from sae_lightning.freeze import NoFreeze
from sae_lightning.members import Member
from sae_lightning.panel import SanityPanel
from sae_lightning.saes import TopK

DEAD = Member("dead", 0)
OF_THE_MODEL = {"zero_shot_clean", "zero_shot_zero", "zero_shot_mean"}


def spoil(dead):
    dead.b_enc.data.fill_(-1e3)


def validate(run, module, data):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.validate(module, data, verbose=False)
    return [str(warning.message) for warning in caught if "withheld" in str(warning.message)]


def check(evaluator, told, seeds=(0,)):
    """The good SAE has a number everywhere, and whoever has none is named in the one warning."""
    withheld = set()
    for name, scores in evaluator.measured.items():
        for member in scores.not_finite():
            assert member.policy == "dead", (name, member)
            withheld.add(member)
            assert name in told[0]
        for seed in seeds:
            assert math.isfinite(float(scores.members[Member("trained", seed)])), name
        assert all(map(math.isfinite, scores.member_floors.values()))
    assert len(told) == bool(withheld)
    return withheld


@pytest.mark.parametrize("evaluator", [Recovery, SeedAgreement, Reconstruction, Sparsity, Drift])
def test_on_synthetic_data(trainer, synthetic, evaluator):
    policies = {name: NoFreeze() for name in ("trained", "dead")}
    panel = SanityPanel(6, lambda d_in: TopK(d_in, k=3, d_sae=24), policies, seeds=(0, 1))
    for seed in (0, 1):
        spoil(panel.members[Member("dead", seed)])
    evaluator = evaluator()
    check(evaluator, validate(trainer(evaluator), panel, synthetic), (0, 1))


@pytest.mark.parametrize(
    "evaluator",
    [
        AttributeProbing(train_images=60, test_images=60),
        AttributeEditing(n_images=90, n_train_pairs=16, n_test_pairs=16),
        ZeroShotRecovered(),
    ],
)
def test_on_images(trainer, evaluator):
    members = {name: toy_clip.planted(torch.eye(6), k=2) for name in ("trained/0", "dead/0")}
    spoil(members["dead/0"])
    told = validate(trainer(evaluator), toy_clip.Members(members), ToyClipData())
    check(evaluator, told)


def test_on_decoder_directions(trainer, tmp_path):
    base = TopK(6, k=2, d_sae=40, seed=9)
    base.initialise(9)
    base.save(tmp_path / "base")
    policies = {name: NoFreeze() for name in ("trained", "dead")}
    panel = SanityPanel(6, lambda d_in: TopK(d_in, k=2, d_sae=12), policies)
    spoil(panel.members[DEAD])
    evaluator, data = (
        MetaLatents([str(tmp_path / "base")], k=2),
        DecoderDirections([str(tmp_path / "base")], batch_size=40),
    )
    told = validate(trainer(evaluator), panel, data)
    withheld = {member for scores in evaluator.measured.values() for member in scores.not_finite()}
    assert withheld <= {DEAD}
    assert len(told) == bool(withheld)
