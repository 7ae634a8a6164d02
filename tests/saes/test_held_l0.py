"""An l0 that is held: thresholds that are settled, a penalty that follows, and what checkpoints and files keep."""

import pytest
import torch
from training import D_IN

from sae_lightning.code import Code
from sae_lightning.saes import Gated, JumpReLU, ReLU, SparseAutoencoder, TopK
from sae_lightning.saes.held_l0 import GAIN, RATE, L1Control
from sae_lightning.saes.jump_relu import TargetL0


def x(n=4096):
    return torch.randn(n, D_IN, generator=torch.Generator().manual_seed(3)) + 1


def made(variant, target):
    held = {"penalty": TargetL0(target, settle=True)} if variant is JumpReLU else {"target_l0": target}
    sae = variant(D_IN, d_sae=40, scale_input=True, **held)
    sae.initialise(0, x())
    return sae


@pytest.mark.parametrize("variant", [ReLU, Gated, JumpReLU])
@pytest.mark.parametrize("target", [2.0, 11.5])
def test_all_thresholds_move_by_one_amount_until_l0_is_the_target(variant, target):
    sae = made(variant, target)
    name = "threshold" if variant is JumpReLU else "b_enc"
    before = getattr(sae, name).detach().clone()
    sae.settle(x())
    assert sae.training
    sae.eval()
    assert abs(sae.encode(x()).nnz / 4096 / target - 1) < 2e-3
    moved = getattr(sae, name).detach() - before
    torch.testing.assert_close(moved, moved[:1].expand_as(moved), rtol=1e-4, atol=1e-6)


def test_without_a_target_nothing_moves():
    for sae in (
        ReLU(D_IN, d_sae=40),
        JumpReLU(D_IN, penalty=TargetL0(4.0), d_sae=40, scale_input=False),
        TopK(D_IN, d_sae=40, k=3),
    ):
        if not sae.is_initialised:
            sae.initialise(0, x())
        before = {name: tensor.clone() for name, tensor in sae.state_dict().items()}
        sae.settle(x())
        assert all(torch.equal(tensor, before[name]) for name, tensor in sae.state_dict().items())


def test_the_weight_rises_where_too_many_are_active_and_falls_where_too_few_are():
    control = L1Control(2.0)
    dense, sparse, right = (Code.from_dense(torch.ones(4, 8) * (torch.arange(8) < n)) for n in (4, 1, 2))
    assert float(control(right)) == 1.0
    assert float(control(dense)) == pytest.approx(2.0**GAIN)
    assert float(control.log_factor) == pytest.approx(RATE * torch.tensor(2.0).log().item())
    assert float(control(sparse)) < 1.0
    assert float(L1Control(0.1)(dense)) == pytest.approx(torch.tensor(GAIN).exp().item())  # bounded


def test_a_checkpoint_has_the_state_and_an_exported_sae_does_not(tmp_path):
    sae = made(ReLU, 3.0)
    sae.losses(x(64), 0)
    assert float(sae.state_dict()["l1_control.log_factor"]) != 0
    sae.save(tmp_path)
    loaded = SparseAutoencoder.load(tmp_path)
    assert isinstance(loaded, ReLU)
    assert loaded.target_l0 is None
    torch.testing.assert_close(loaded(x(8)), sae.eval()(x(8)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", [ReLU, Gated])
def test_a_target_that_is_none_is_refused(variant):
    with pytest.raises(ValueError, match="target_l0=0"):
        variant(D_IN, d_sae=8, target_l0=0.0)
