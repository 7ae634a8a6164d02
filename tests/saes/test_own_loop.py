"""Training in a loop of one's own: three calls, and what is refused where one is forgotten."""

import copy

import pytest
import torch
from saes.started import D_IN, D_SAE, started
from training import VARIANTS

from sae_lightning.freeze import FrozenDecoder, SoftFrozenDecoder
from sae_lightning.saes import ReLU, TopK

NAN, INF = float("nan"), float("inf")


@pytest.fixture(params=VARIANTS, ids=lambda variant: variant.__name__)
def variant(request):
    return request.param


def test_three_calls_do_what_a_trainer_does(variant):
    """The same as the calls of `SAEModule`, to the bit; and `step` asks for a gradient."""
    saes = [started(variant) for _ in range(2)]
    own, trainers = (torch.optim.Adam(sae.parameters(), lr=1e-2) for sae in saes)
    for step, x in enumerate(torch.randn(4, 32, D_IN)):
        for sae in saes:
            sae.losses(x, step)["loss"].backward()
        saes[0].step(own)
        saes[1].on_before_optimizer_step(trainers)
        trainers.step()
        saes[1].zero_grad()
        saes[1].constrain()
    for a, b in zip(saes[0].parameters(), saes[1].parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="this SAE has no gradient"):
        saes[0].step(own)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD, torch.optim.AdamW], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("fused", [None, True], ids=["plain", "fused"])
def test_a_forgotten_constraint_is_an_error(variant, kind, fused):
    sae = started(variant)
    optimizer = kind(sae.parameters(), lr=1e-2, fused=fused)
    sae.losses(torch.randn(32, D_IN), 0)["loss"].backward()
    optimizer.step()
    with pytest.raises(ValueError, match=r"have changed since the last losses.* call sae.step\(optimizer\)"):
        sae.losses(torch.randn(32, D_IN), 1)
    with pytest.raises(ValueError, match="have changed since the last losses"):  # it is not forgotten again
        sae.losses(torch.randn(32, D_IN), 1)
    sae.constrain()
    sae.losses(torch.randn(32, D_IN), 1)["loss"].backward()
    sae.losses(torch.randn(32, D_IN), 1)["loss"].backward()  # nothing has changed: gradients add up
    sae.step(optimizer)
    sae.losses(torch.randn(32, D_IN), 2)


def test_a_small_step_is_not_overlooked_and_copies_start_anew():
    sae = started(TopK, k=4)
    optimizer = torch.optim.SGD(sae.parameters(), lr=1e-9)
    sae.losses(torch.randn(32, D_IN), 0)["loss"].backward()
    copied = copy.deepcopy(sae)
    optimizer.step()
    with pytest.raises(ValueError, match="have changed since the last losses"):
        sae.losses(torch.randn(32, D_IN), 1)
    copied.losses(torch.randn(32, D_IN), 1)
    sae.load_state_dict(copied.state_dict())
    sae.losses(torch.randn(32, D_IN), 1)


def test_decoders_of_other_norms_are_refused():
    sae = TopK(D_IN, d_sae=D_SAE, k=4)
    with torch.no_grad():
        sae.W_dec.mul_(1.1)
    with pytest.raises(ValueError, match=r"decoder directions have norms from 1.1 to 1.1, expected 1"):
        sae.losses(torch.randn(32, D_IN), 0)


def test_norms_are_not_measured_where_nothing_can_have_changed_them(variant, monkeypatch):
    sae = started(variant)
    optimizer = torch.optim.Adam(sae.parameters(), lr=1e-2)
    for step in range(2):
        sae.losses(torch.randn(32, D_IN), step)["loss"].backward()
        optimizer.step()
        sae.constrain()
    monkeypatch.setattr(torch.linalg, "vector_norm", lambda *args, **kwargs: pytest.fail("measured"))
    sae.losses(torch.randn(32, D_IN), 2)


def test_a_frozen_decoder_is_left_alone():
    sae = started(TopK, k=4)
    sae.W_dec.requires_grad_(False).mul_(2.0)
    sae.losses(torch.randn(32, D_IN), 0)


def test_a_policy_holds_in_a_loop_of_ones_own():
    for policy in (SoftFrozenDecoder(min_cosine=0.99), FrozenDecoder()):
        sae = started(TopK, k=4)
        policy.hold(sae)
        optimizer = torch.optim.Adam(sae.parameters(), lr=0.1)
        sae.losses(torch.randn(32, D_IN), 0)["loss"].backward()
        sae.step(optimizer)
        cosines = torch.linalg.vecdot(sae.W_dec.detach(), sae.W_dec_start)
        assert cosines.min() == pytest.approx(0.99 if isinstance(policy, SoftFrozenDecoder) else 1, abs=1e-5)
        assert [str(member) for member in sae.members] == [f"{policy.name}/0"]


def test_losses_take_any_leading_shape_and_refuse_the_rest(variant):
    x = torch.randn(2, 3, D_IN)
    sae = started(variant)
    torch.testing.assert_close(copy.deepcopy(sae).losses(x, 0), sae.losses(x.reshape(-1, D_IN), 0))
    with pytest.raises(ValueError, match=r"the batch has the shape \[4, 16\]: expected \[..., 8\]|d_in=8"):
        sae.losses(torch.randn(4, 16), 0)
    with pytest.raises(ValueError, match=r"the batch has the shape \[0, 8\]: expected one activation or more"):
        sae.losses(torch.randn(0, D_IN), 0)
    x[1, 0, 3] = NAN
    with pytest.raises(ValueError, match=r"the batch has 1 number of 48 that is not finite, first nan at \[3, 3\]"):
        sae.losses(x, 0)


def test_a_loss_that_is_not_finite_says_why():
    sae = started(ReLU)
    with torch.no_grad():
        sae.b_dec[2] = INF
    sae.constrain()
    with pytest.raises(
        ValueError, match=r"since b_dec has 1 number of 8 .*first inf at \[2\]: lower the learning rate"
    ):
        sae.losses(torch.randn(4, D_IN), 0)
    with pytest.raises(ValueError, match="the loss became (inf|nan): lower the learning rate"):
        started(ReLU).losses(torch.full((4, D_IN), 3e38), 0)
