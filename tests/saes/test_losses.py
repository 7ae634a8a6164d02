"""Losses and gradients of each variant against dense autograd, written out, in float64."""

import pytest
import torch
from temporaries import Temporaries

from sae_lightning.kernels import PreActs
from sae_lightning.saes import BatchTopK, Gated, JumpReLU, LinearL0, MatryoshkaBatchTopK, ReLU, TargetL0, TopK
from sae_lightning.saes.aux_k import aux_k_loss, with_dead_latents

pytestmark = pytest.mark.usefixtures("plain_or_fast")

D_IN, D_SAE, BATCH = 6, 24, 16


def randomised(sae):
    """The SAE in float64 with all parameters away from their special start."""
    sae.double()
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            if name != "threshold":
                parameter.add_(0.3 * torch.randn_like(parameter))
    return sae


def pre_acts(sae, x):
    return (x - sae.b_dec) @ sae.W_enc + sae.b_enc


def mse(sae, x, latents):
    return (latents @ sae.W_dec + sae.b_dec - x).pow(2).sum(1).mean()


def compare(sae, x, reference, step=100):
    loss = sae.loss_terms(x, step)["loss"]  # of directions that need not have unit norm
    torch.testing.assert_close(loss, reference)
    names = [name for name, parameter in sae.named_parameters() if parameter.requires_grad]
    parameters = [sae.get_parameter(name) for name in names]
    got = torch.autograd.grad(loss, parameters)
    wanted = torch.autograd.grad(reference, parameters)
    for name, left, right in zip(names, got, wanted, strict=True):
        torch.testing.assert_close(left, right, msg=name)


@pytest.fixture
def x():
    return torch.randn(BATCH, D_IN, dtype=torch.float64)


def test_relu(x):
    sae = randomised(ReLU(D_IN, d_sae=D_SAE, l1_coefficient=0.07))
    latents = pre_acts(sae, x).relu()
    compare(sae, x, mse(sae, x, latents) + 0.07 * latents.sum(1).mean())


def test_relu_warms_up(x):
    sae = randomised(ReLU(D_IN, d_sae=D_SAE, l1_coefficient=0.07, sparsity_warmup_steps=200))
    latents = pre_acts(sae, x).relu()
    compare(sae, x, mse(sae, x, latents) + 0.035 * latents.sum(1).mean(), step=100)


def test_topk(x):
    sae = randomised(TopK(D_IN, d_sae=D_SAE, k=5))
    pre = pre_acts(sae, x)
    kept = torch.zeros_like(pre).scatter(1, pre.topk(5).indices, 1.0)
    compare(sae, x, mse(sae, x, (pre * kept).relu()))


def test_topk_with_fewer_positive_entries_than_k(x):
    sae = randomised(TopK(D_IN, d_sae=D_SAE, k=D_SAE))
    compare(sae, x, mse(sae, x, pre_acts(sae, x).relu()))


def test_batch_topk(x):
    sae = randomised(BatchTopK(D_IN, d_sae=D_SAE, k=5))
    pre = pre_acts(sae, x)
    smallest = pre.flatten().topk(5 * BATCH).values.min()
    compare(sae, x, mse(sae, x, pre * (pre >= smallest)))


def test_gated(x):
    sae = randomised(Gated(D_IN, d_sae=D_SAE, l1_coefficient=0.07, sparsity_warmup_steps=200))
    without_bias = (x - sae.b_dec) @ sae.W_enc
    gate = (without_bias + sae.b_enc).relu()
    magnitude = (sae.r_mag.exp() * without_bias + sae.b_mag).relu()
    latents = magnitude * (gate > 0)
    assert ((magnitude > 0) & (gate == 0)).any()
    assert ((magnitude == 0) & (gate > 0)).any()
    by_gate = (gate @ sae.W_dec.detach() + sae.b_dec.detach() - x).pow(2).sum(1).mean()
    compare(sae, x, mse(sae, x, latents) + 0.035 * gate.sum(1).mean() + by_gate)
    torch.testing.assert_close(sae.eval().encode(x).to_dense(), latents.detach())


@pytest.mark.parametrize("fractions", [(0.5, 0.3, 0.2), (1.0,), (0.25, 0.75)])
def test_matryoshka(x, fractions):
    sae = randomised(MatryoshkaBatchTopK(D_IN, d_sae=D_SAE, k=5, group_fractions=fractions))
    pre = pre_acts(sae, x)
    latents = pre * (pre >= pre.flatten().topk(5 * BATCH).values.min())
    ends = {(0.5, 0.3, 0.2): [12, 19, 24], (1.0,): [24], (0.25, 0.75): [6, 24]}[fractions]
    prefixes = [mse(sae, x, latents * (torch.arange(D_SAE) < end)) for end in ends]
    compare(sae, x, torch.stack(prefixes).mean())
    torch.testing.assert_close(sae.loss_terms(x, 0)["mse"], prefixes[-1])


def test_matryoshka_with_one_group_is_batch_topk(x):
    torch.manual_seed(3)
    one = randomised(MatryoshkaBatchTopK(D_IN, d_sae=D_SAE, k=5, group_fractions=[1.0]))
    torch.manual_seed(3)
    other = randomised(BatchTopK(D_IN, d_sae=D_SAE, k=5))
    torch.testing.assert_close(one.loss_terms(x, 0), other.loss_terms(x, 0))


@pytest.mark.parametrize("fractions", [(0.5, 0.3), (0.5, 0.0, 0.5), (0.99, 0.01), (1.5, -0.5), ()])
def test_matryoshka_refuses_groups_that_are_none(fractions):
    with pytest.raises(ValueError, match="group_fractions=.*expected shares with the sum 1"):
        MatryoshkaBatchTopK(D_IN, d_sae=D_SAE, k=5, group_fractions=fractions)


def test_encoding_in_training_mode_shows_what_is_active(x):
    sae = randomised(JumpReLU(D_IN, d_sae=D_SAE, initial_threshold=0.5, bandwidth=0.6, scale_input=False))
    assert sae.training
    pre = pre_acts(sae, x)
    torch.testing.assert_close(sae.encode(x).to_dense(), (pre * (pre > sae.threshold)).detach())


@pytest.mark.parametrize("penalty", [LinearL0(0.2), TargetL0(4.0, 0.3)], ids=["linear", "target"])
def test_jump_relu(x, penalty):
    bandwidth, threshold = 0.6, 0.5
    sae = randomised(
        JumpReLU(
            D_IN, d_sae=D_SAE, penalty=penalty, initial_threshold=threshold, bandwidth=bandwidth, scale_input=False
        )
    )
    pre = pre_acts(sae, x)
    on = (pre > sae.threshold).double()
    window = ((pre - sae.threshold).abs() < bandwidth / 2).double() / bandwidth
    # Written as surrogates: their values are those of the jump and the step, their gradients those of the paper.
    latents = pre * on - sae.threshold.detach() * window.detach() * (sae.threshold - sae.threshold.detach())
    step = on.detach() - window.detach() * (sae.threshold - sae.threshold.detach())
    l0 = step.sum(1).mean()
    wanted = 0.2 * l0 if isinstance(penalty, LinearL0) else 0.3 * (l0 / 4 - 1) ** 2
    assert 0 < window.count_nonzero() < window.numel()
    compare(sae, x, mse(sae, x, latents) + wanted)


def test_b_dec_that_is_not_subtracted(x):
    sae = randomised(TopK(D_IN, d_sae=D_SAE, k=5, apply_b_dec_to_input=False))
    pre = x @ sae.W_enc + sae.b_enc
    kept = torch.zeros_like(pre).scatter(1, pre.topk(5).indices, 1.0)
    compare(sae, x, mse(sae, x, (pre * kept).relu()))


def aux_reference(sae, x, dead):
    pre = pre_acts(sae, x)
    kept = torch.zeros_like(pre).scatter(1, pre.topk(sae.k).indices, 1.0)
    residual = (x - (pre * kept).relu() @ sae.W_dec - sae.b_dec).detach()
    k_aux, n_dead = D_IN // 2, int(dead.sum())
    of_dead = pre.masked_fill(~dead, float("-inf"))
    chosen = torch.zeros_like(pre).scatter(1, of_dead.topk(min(k_aux, n_dead)).indices, 1.0)
    aux = (residual - (pre * chosen) @ sae.W_dec).pow(2).sum(1).mean() * min(n_dead / k_aux, 1.0)
    return mse(sae, x, (pre * kept).relu()) + sae.aux_coefficient * aux


@pytest.mark.parametrize("n_dead", [1, 2, 10])
def test_aux_k(x, n_dead):
    sae = randomised(TopK(D_IN, d_sae=D_SAE, k=5, aux_coefficient=0.4, dead_after_samples=10))
    dead = torch.zeros(D_SAE, dtype=torch.bool)
    dead[torch.randperm(D_SAE)[:n_dead]] = True
    sae.samples_since_fired[dead] = 10
    reference = aux_reference(sae, x, dead)
    compare(sae, x, reference)


def test_aux_k_alone_trains_the_encoder_even_where_pre_acts_are_negative():
    W_enc, b_enc, W_dec = (
        torch.randn(D_IN, D_SAE, requires_grad=True),
        torch.full((D_SAE,), -50.0),
        torch.randn(D_SAE, D_IN),
    )
    x, dead = torch.randn(BATCH, D_IN), torch.arange(D_SAE) < 3
    *_, dead_latents = with_dead_latents(dead, W_enc, b_enc, W_dec)
    loss = aux_k_loss(x, torch.randn(BATCH, D_IN), dead_latents, None)
    loss.backward()
    assert (W_enc.grad[:, :3].abs().sum(0) > 0).all()
    assert (W_enc.grad[:, 3:] == 0).all()


def test_aux_k_multiplies_matrices_of_few_sizes(monkeypatch):
    """A thousand kernels, one for each number of dead latents, had taken 3 GB."""
    sizes = set()
    monkeypatch.setattr(
        "sae_lightning.saes.aux_k.PreActs",
        lambda x, W_enc, *args, **kwargs: sizes.add(W_enc.shape[1]) or PreActs(x, W_enc, *args, **kwargs),
    )
    for n_dead in range(1, 200):
        dead = torch.arange(256) < n_dead
        x, W = torch.randn(BATCH, D_IN), torch.randn(256, D_IN)
        *_, dead_latents = with_dead_latents(dead, W.T, torch.randn(256), W)
        aux_k_loss(x, x, dead_latents, None)
    assert sizes == {64, 128, 192, 256}


def large_tensors_of_a_step(sae, x):
    with Temporaries() as made:
        sae.loss_terms(x, 0)["loss"].backward()
    return sum(size >= sae.W_dec.numel() for size in made.sizes)


@pytest.mark.parametrize("variant", [TopK, MatryoshkaBatchTopK])
def test_the_gradient_of_aux_k_takes_no_matrix_of_all_latents(variant):
    x = torch.randn(BATCH, D_IN)
    settings = {"d_sae": 512, "k": 3, "aux_coefficient": 0.4, "dead_after_samples": 10}
    without, some = variant(D_IN, **settings), variant(D_IN, **settings)
    some.samples_since_fired[5:40] = 10
    expected = large_tensors_of_a_step(without, x)
    assert expected >= 2, "the gradients of both matrices are made"
    assert large_tensors_of_a_step(some, x) == expected
    assert some.W_dec.grad[5:40].abs().sum() > 0


def test_aux_k_is_zero_where_the_dead_latents_explain_what_is_missing():
    sae = TopK(2, d_sae=2, k=1, aux_coefficient=1.0, dead_after_samples=10)
    with torch.no_grad():
        sae.W_enc.copy_(torch.eye(2))
        sae.W_dec.copy_(torch.eye(2))
    sae.samples_since_fired[1] = 10
    x = torch.tensor([[3.0, 1.0], [2.0, 0.5]])  # the first latent takes the first dimension; the second is missing
    losses = sae.loss_terms(x, 0)
    assert losses["mse"].item() == pytest.approx((1 + 0.25) / 2)
    assert losses["aux"].item() == 0


def test_no_aux_term_without_dead_latents(x):
    sae = randomised(TopK(D_IN, d_sae=D_SAE, k=5, aux_coefficient=0.4))
    assert "aux" not in sae.loss_terms(x, 0)


def test_the_groups_of_the_paper_are_the_default():
    assert MatryoshkaBatchTopK(D_IN, d_sae=1000, k=5).group_ends == [500, 800, 1000]


def test_a_threshold_stays_at_zero_or_above():
    """Below it latents could be negative, and a step of the optimizer does not know that."""
    sae = JumpReLU(D_IN, d_sae=D_SAE, scale_input=False)
    with torch.no_grad():
        sae.threshold[3], sae.threshold[4] = -0.5, 0.25
    sae.constrain()
    assert (sae.threshold[3], sae.threshold[4]) == (0.0, 0.25)
    assert sae.threshold.min() == 0
    assert (sae.eval().encode(torch.randn(64, D_IN)).values >= 0).all()
