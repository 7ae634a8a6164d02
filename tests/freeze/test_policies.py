"""Contracts of every freeze policy on every variant, under a real Trainer."""

import copy

import pytest
import torch
from training import D_IN, VARIANTS, SaveAt, fit

from sae_lightning.freeze import (
    FreezePolicy,
    FrozenDecoder,
    FrozenEncoder,
    NoFreeze,
    SeparateParts,
    SoftFrozenDecoder,
    SoftFrozenEncoder,
    TiedAtRandom,
    Untrained,
)
from sae_lightning.members import Member
from sae_lightning.saes import TopK

POLICIES = [one for one in FreezePolicy.__subclasses__() if one not in (SeparateParts, TiedAtRandom)]
"""All but those of crosscoders alone."""
FROZEN = {
    NoFreeze: [],
    SoftFrozenDecoder: [],
    SoftFrozenEncoder: [],
    FrozenDecoder: ["W_dec"],
    FrozenEncoder: ["W_enc"],
    Untrained: ["W_enc", "W_dec"],
}


def make(variant, **kwargs):
    return variant(D_IN, d_sae=64, **kwargs)


def tensors(sae):
    return {name: tensor.clone() for name, tensor in sae.state_dict().items()}


def train(sae, policy, folder, **kwargs):
    torch.manual_seed(0)
    return fit(sae, folder, callbacks=[policy, *kwargs.pop("callbacks", [])], **kwargs)


def test_all_policies_are_covered():
    assert set(POLICIES) == set(FROZEN)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.__name__)
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.__name__)
def test_what_is_frozen_stays_to_the_bit_also_after_a_resume(variant, policy, tmp_path):
    sae = make(variant)
    checkpoint = SaveAt(4, tmp_path / "4.ckpt")
    trainer = train(sae, policy(), tmp_path, callbacks=[checkpoint])
    start = make(variant)
    start.initialise(0, trainer.datamodule.calibration_sample(max(start.n_calibration_samples, 1)))
    resumed = make(variant)
    train(resumed, policy(), tmp_path, ckpt_path=tmp_path / "4.ckpt")
    assert Member(policy.name, 0) in sae.members
    for trained in (sae, resumed):
        assert torch.equal(trained.W_dec_start, start.W_dec)
        for name in ("W_enc", "W_dec", "b_enc", "b_dec"):
            moved = not torch.equal(trained.get_parameter(name), start.get_parameter(name))
            assert moved == (name not in FROZEN[policy]), name
            assert trained.get_parameter(name).requires_grad == (name not in FROZEN[policy])
        if policy is SoftFrozenDecoder:
            assert ((trained.W_dec * trained.W_dec_start).sum(1) >= 0.8 - 1e-6).all()


@pytest.mark.parametrize(("limit", "equal"), [(1.0, FrozenDecoder), (-1.0, NoFreeze)])
def test_soft_freeze_equals_its_limits(limit, equal, tmp_path):
    soft, other = make(TopK, k=4), make(TopK, k=4)
    arguments = {"gradient_clip_val": 0.5}
    train(soft, SoftFrozenDecoder(limit), tmp_path, **arguments)
    train(other, equal(), tmp_path, **arguments)
    for name, tensor in tensors(soft).items():
        assert torch.equal(tensor, tensors(other)[name]), name


def test_a_softly_frozen_encoder_keeps_its_directions_and_not_their_norms(tmp_path):
    def transcoder():
        return TopK(4, d_sae=64, k=4, d_out=4, optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.1))

    free, soft = transcoder(), transcoder()
    train(free, NoFreeze(), tmp_path)
    train(soft, SoftFrozenEncoder(0.9), tmp_path)
    cosines = [torch.cosine_similarity(sae.W_enc.T, sae.W_enc_start) for sae in (free, soft)]
    assert cosines[0].min() < 0.9
    assert 0.9 - 1e-6 < cosines[1].min() < 0.9 + 1e-6
    assert (soft.W_enc.norm(dim=0) - 1).abs().max() > 0.1
    with pytest.raises(ValueError, match="tied_init=false does not keep"):
        SoftFrozenEncoder().hold(make(TopK, k=4, tied_init=False))


def test_soft_freeze_holds_directions_that_would_leave(tmp_path):
    free, soft = (make(TopK, k=4, optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.1)) for _ in range(2))
    train(free, NoFreeze(), tmp_path)
    train(soft, SoftFrozenDecoder(0.9), tmp_path)
    assert ((free.W_dec * free.W_dec_start).sum(1) < 0.9).any()
    cosine = (soft.W_dec * soft.W_dec_start).sum(1)
    assert cosine.min() > 0.9 - 1e-6
    assert (cosine < 0.9 + 1e-6).any()


def test_resume_refers_to_the_first_start(tmp_path):
    checkpoint = SaveAt(4, tmp_path / "4.ckpt")
    whole, resumed = make(TopK, k=4), make(TopK, k=4)
    train(whole, SoftFrozenDecoder(), tmp_path, callbacks=[checkpoint])
    train(resumed, SoftFrozenDecoder(), tmp_path, ckpt_path=tmp_path / "4.ckpt")
    assert torch.equal(resumed.W_dec_start, whole.W_dec_start)
    assert torch.equal(resumed.W_dec, whole.W_dec)


def test_policy_for_a_lone_sae_refuses_a_panel(tmp_path):
    from sae_lightning.panel import SanityPanel

    panel = SanityPanel(D_IN, lambda d_in: TopK(d_in, d_sae=64, k=4))
    with pytest.raises(ValueError, match="is for a lone SAE"):
        FrozenDecoder()._sae(panel)


def test_bound_copies_have_their_own_checkpoint_key():
    keys = {FrozenDecoder().bind(Member("a", seed)).state_key for seed in (0, 1)} | {FrozenDecoder().state_key}
    assert len(keys) == 3
    assert copy.copy(FrozenDecoder()).member is None
