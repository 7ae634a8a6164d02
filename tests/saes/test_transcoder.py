"""Transcoders: the loss of dense autograd, the SAE where both sides are one, and a planted MLP that is found."""

import pytest
import torch
from torch.nn.functional import normalize
from training import SETTINGS, VARIANTS, steps

from sae_lightning.saes import (
    BatchTopK,
    CovarianceMatched,
    Gated,
    JumpReLU,
    MatryoshkaBatchTopK,
    Pursuit,
    ReLU,
    SparseAutoencoder,
    TopK,
)  # fmt: skip
from sae_lightning.saes.aux_k import aux_k_loss, with_dead_latents

D_IN, D_OUT, D_SAE, BATCH = 6, 5, 24, 16


def dense_loss(sae, x, y):
    """Write out the loss of a transcoder with dense matrices."""
    inputs, target = x * sae.input_scale, y * sae.target_scale
    pre = inputs @ sae.W_enc + sae.b_enc

    def mse(latents, W_dec=sae.W_dec, b_dec=sae.b_dec, skipped=inputs @ sae.W_skip):
        return (latents @ W_dec + b_dec + skipped - target).pow(2).sum(1).mean()

    match sae:
        case MatryoshkaBatchTopK():
            latents = pre * (pre >= pre.flatten().topk(5 * BATCH).values.min())
            return torch.stack([mse(latents * (torch.arange(D_SAE) < end)) for end in sae.group_ends]).mean()
        case BatchTopK():
            return mse(pre * (pre >= pre.flatten().topk(5 * BATCH).values.min()))
        case TopK():
            return mse((pre * torch.zeros_like(pre).scatter(1, pre.topk(5).indices, 1.0)).relu())
        case ReLU():
            return mse(pre.relu()) + 0.07 * pre.relu().sum(1).mean()
        case Gated():
            latents = (sae.r_mag.exp() * (inputs @ sae.W_enc) + sae.b_mag).relu() * (pre > 0)
            held = [part.detach() for part in (sae.W_dec, sae.b_dec, inputs @ sae.W_skip)]
            return mse(latents) + 0.07 * pre.relu().sum(1).mean() + mse(pre.relu(), *held)
        case JumpReLU():
            window = ((pre - sae.threshold).abs() < 0.3).double().detach() / 0.6
            moved = window * (sae.threshold - sae.threshold.detach())
            on = (pre > sae.threshold).double()
            return mse(pre * on - sae.threshold.detach() * moved) + 1e-3 * (on - moved).sum(1).mean()


def randomised(variant, **kwargs):
    sae = variant(D_IN, d_sae=D_SAE, d_out=D_OUT, skip=True, **SETTINGS[variant], **kwargs)
    sae.initialise(0, torch.randn(4096, D_IN), torch.randn(4096, D_OUT))
    sae.double()
    with torch.no_grad():
        sae.input_scale.fill_(0.7)
        sae.target_scale.fill_(1.6)
        for name, parameter in sae.named_parameters():
            if name != "threshold":
                parameter.add_(0.3 * torch.randn_like(parameter))
    return sae


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.__name__)
def test_gradients_are_those_of_dense_autograd(variant):
    torch.manual_seed(0)
    x, y = torch.randn(BATCH, D_IN).double(), torch.randn(BATCH, D_OUT).double()
    sae = randomised(variant, aux_coefficient=0.0)
    loss, wanted = sae.loss_terms(x, 0, y)["loss"], dense_loss(sae, x, y)
    torch.testing.assert_close(loss, wanted)
    names, parameters = zip(*sae.named_parameters(), strict=True)
    assert "W_skip" in names
    for name, left, right in zip(
        names, torch.autograd.grad(loss, parameters), torch.autograd.grad(wanted, parameters), strict=True
    ):
        torch.testing.assert_close(left, right, msg=name)


def test_dead_latents_learn_from_what_is_left_of_the_target():
    torch.manual_seed(0)
    x, y = torch.randn(BATCH, D_IN).double(), torch.randn(BATCH, D_OUT).double()
    sae = randomised(TopK, aux_coefficient=0.5)
    sae.samples_since_fired[:10] = sae.dead_after_samples
    losses = sae.loss_terms(x, 0, y)
    inputs = x * sae.input_scale
    latents = sae.train().encode(x).to_dense()
    residual = y * sae.target_scale - latents @ sae.W_dec - sae.b_dec - inputs @ sae.W_skip
    dead = torch.arange(D_SAE) < 10
    pre = (inputs @ sae.W_enc + sae.b_enc)[:, :10]
    kept = torch.zeros_like(pre).scatter(1, pre.topk(D_OUT // 2).indices, 1.0)
    wanted = (residual - (pre * kept) @ sae.W_dec[:10]).square().sum(1).mean()
    torch.testing.assert_close(losses["aux"], wanted)
    *_, dead_latents = with_dead_latents(dead, sae.W_enc, sae.b_enc, sae.W_dec)
    assert aux_k_loss(inputs, residual, dead_latents, None) == losses["aux"]
    torch.testing.assert_close(losses["loss"], losses["mse"] + 0.5 * losses["aux"])


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.__name__)
def test_with_one_place_for_both_sides_it_is_the_sae_to_the_bit(variant):
    x = 3 * torch.randn(256, D_IN, generator=torch.Generator().manual_seed(1)) + 1
    shared = {"d_sae": D_SAE, "init": CovarianceMatched(), "scale_input": True, "dead_after_samples": 300}
    shared = SETTINGS[variant] | {"aux_coefficient": 0.1} | shared
    sae = variant(D_IN, tied_init=False, apply_b_dec_to_input=False, **shared)
    one = variant(D_IN, d_out=D_IN, **shared)
    sae.initialise(0, x)
    one.initialise(0, x, x)
    assert float(sae.input_scale) != 1
    for own in (sae, one):
        own.samples_since_fired[:9] = 300  # dead, so that AuxK takes part
    steps(sae, x)
    steps(one, x, x)
    for name, tensor in sae.state_dict().items():
        assert torch.equal(tensor, one.state_dict()[name]), name
    assert torch.equal(one.target_scale, sae.input_scale)
    assert torch.equal(sae.eval()(x), one.eval()(x))


def test_it_finds_a_planted_mlp():
    """y = relu(x reads^T - 1) writes + x linear: each neuron is a latent, by what it reads and by what it writes."""
    generator = torch.Generator().manual_seed(2)
    d_in, d_out = 8, 6
    reads, writes = (torch.randn(2, d, generator=generator) for d in (d_in, d_out))
    linear = 0.3 * torch.randn(d_in, d_out, generator=generator)

    def batch(size):
        x = torch.randn(size, d_in, generator=generator)
        return x, (x @ reads.T - 1).relu() @ writes + x @ linear

    sae = ReLU(d_in, d_sae=8, d_out=d_out, skip=True, l1_coefficient=0.02, seed=1)
    sae.start_b_dec(*batch(4096))
    optimizer = torch.optim.Adam(sae.parameters(), lr=3e-2)
    for step in range(300):
        x, y = batch(256)
        sae.loss_terms(x, step, y)["loss"].backward()
        sae.step(optimizer)
    rows = (writes, sae.W_dec), (reads, sae.W_enc.T)
    written, read = (normalize(true, dim=1) @ normalize(found, dim=1).T for true, found in rows)
    assert written.minimum(read).amax(1).min() > 0.97, "one latent reads what a neuron reads and writes what it writes"
    assert torch.nn.functional.cosine_similarity(sae.W_skip.flatten(), linear.flatten(), dim=0) > 0.98


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.__name__)
def test_saving_folds_the_scales_of_both_sides(variant, tmp_path):
    generator = torch.Generator().manual_seed(3)
    x, y = (
        40 * torch.randn(4096, D_IN, generator=generator) + 7,
        0.1 * torch.randn(4096, D_OUT, generator=generator) - 1,
    )
    settings = SETTINGS[variant] | {"scale_input": True}
    sae = variant(D_IN, d_sae=D_SAE, d_out=D_OUT, skip=True, **settings)
    assert not sae.is_initialised
    sae.initialise(0, x, y)
    one = torch.tensor(1.0)
    torch.testing.assert_close((x * sae.input_scale).square().sum(1).mean(), one)
    torch.testing.assert_close((y * sae.target_scale).square().sum(1).mean(), one)
    steps(sae, x[:BATCH], y[:BATCH])
    sae.eval().save(tmp_path)
    loaded = SparseAutoencoder.load(tmp_path)
    assert (type(loaded), loaded.d_out, loaded.skip, float(loaded.target_scale)) == (variant, D_OUT, True, 1.0)
    torch.testing.assert_close(loaded(x[:BATCH]), sae(x[:BATCH]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loaded.W_dec.norm(dim=1), torch.ones(D_SAE))
    before, after = sae.encode(x[:BATCH]), loaded.encode(x[:BATCH])
    torch.testing.assert_close(after.to_dense(), before.to_dense() / sae.target_scale, rtol=1e-3, atol=1e-3)


def test_edited_latents_keep_what_the_skip_path_adds():
    sae = randomised(TopK).eval()
    x = torch.randn(3, 4, D_IN).double()
    code = sae.encode(x)
    nothing = sae.decode(code.with_values(torch.zeros_like(code.values)))
    torch.testing.assert_close(nothing, (x * sae.input_scale @ sae.W_skip + sae.b_dec).detach() / sae.target_scale)
    assert sae(x).shape == (3, 4, D_OUT)
    with pytest.raises(ValueError, match="skip=True, and the latents have no"):
        sae.decode(code.to_dense())


def test_gradients_reach_the_activations_through_latents_and_skip_path():
    sae = randomised(ReLU).eval()
    x = torch.randn(BATCH, D_IN).double().requires_grad_()
    got = torch.autograd.grad(sae.decode(sae.encode(x, gradient=True), gradient=True).sum(), x)[0]
    inputs = x * sae.input_scale
    dense = (inputs @ sae.W_enc + sae.b_enc).relu() @ sae.W_dec + sae.b_dec + inputs @ sae.W_skip
    torch.testing.assert_close(got, torch.autograd.grad((dense / sae.target_scale).sum(), x)[0])


def test_what_does_not_fit_is_refused():
    transcoder, sae, x, y = TopK(D_IN, d_sae=8, k=2, d_out=D_OUT), TopK(D_IN, d_sae=8, k=2), *torch.randn(2, 4, D_IN)
    with pytest.raises(ValueError, match=r"no activations of the target: expected \[..., d_out=5\] of a transcoder"):
        transcoder.losses(x, 0)
    with pytest.raises(ValueError, match=r"activations \[4, 6\] of the target: expected none of an SAE"):
        sae.losses(x, 0, y)
    with pytest.raises(ValueError, match="4 activations and 2 targets"):
        transcoder.losses(x, 0, torch.zeros(2, D_OUT))
    with pytest.raises(ValueError, match="skip=True: the skip path of an SAE could give back what it reads"):
        TopK(D_IN, d_sae=8, k=2, skip=True)
    with pytest.raises(ValueError, match="input_norm=center: what a transcoder answers with has norms of its own"):
        TopK(D_IN, d_sae=8, k=2, d_out=D_OUT, input_norm="center")
    with pytest.raises(ValueError, match="a Pursuit takes what an SAE answers"):
        Pursuit(D_IN, d_sae=8, l0=2.0, d_out=D_OUT)
    with pytest.raises(ValueError, match="attach takes what an SAE answers"), transcoder.eval().attach(sae, "x"):
        pass
    widths = {"mlp_in": D_IN, "mlp_out": D_OUT}
    with pytest.raises(ValueError, match="a -> mlp_out, and the data have the hooks mlp_in, mlp_out, without a"):
        TopK(D_IN + D_OUT, d_sae=8, k=2, source="a", target="mlp_out", widths=widths)
    with pytest.raises(ValueError, match="source=mlp_in, target=None, d_out=None: expected both names"):
        TopK(D_IN + D_OUT, d_sae=8, k=2, source="mlp_in", widths=widths)
