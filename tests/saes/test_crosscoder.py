"""Crosscoders: the loss of dense autograd with a penalty by norms of parts, the SAE where there is one part."""

import pytest
import torch
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
from sae_lightning.saes.crosscoder import norm_shares

WIDTHS, D_IN, D_SAE, BATCH = {"early": 4, "late": 3}, 7, 24, 16
EARLY, LATE = slice(0, 4), slice(4, 7)


def samples(n=4096, seed=1):
    x = torch.randn(n, D_IN, generator=torch.Generator().manual_seed(seed))
    x[:, LATE] = 50 * x[:, LATE] - 9
    return x


def crosscoder(variant, **kwargs):
    sae = variant(D_IN, d_sae=D_SAE, crosscoder=True, widths=WIDTHS, **SETTINGS[variant] | kwargs)
    sae.initialise(0, samples())
    return sae


def dense_loss(sae, x):
    """Write out the loss with an encoder and a decoder for each part."""
    scaled = {part: x[:, own] * sae.input_scale[own] for part, own in (("early", EARLY), ("late", LATE))}
    W_enc = {"early": sae.W_enc[EARLY], "late": sae.W_enc[LATE]}
    W_dec = {"early": sae.W_dec[:, EARLY], "late": sae.W_dec[:, LATE]}
    b_dec = {"early": sae.b_dec[EARLY], "late": sae.b_dec[LATE]}
    read = sum((scaled[part] - b_dec[part]) @ W_enc[part] for part in WIDTHS)
    pre = read + sae.b_enc
    norms = sum(W_dec[part].pow(2).sum(1).sqrt() for part in WIDTHS)

    def mse(latents, hold=lambda tensor: tensor):
        return sum(
            (latents @ hold(W_dec[part]) + hold(b_dec[part]) - (scaled[part])).pow(2).sum(1).mean() for part in WIDTHS
        )

    match sae:
        case MatryoshkaBatchTopK():
            latents = pre * (pre >= pre.flatten().topk(5 * BATCH).values.min())
            return torch.stack([mse(latents * (torch.arange(D_SAE) < end)) for end in sae.group_ends]).mean()
        case BatchTopK():
            return mse(pre * (pre >= pre.flatten().topk(5 * BATCH).values.min()))
        case TopK():
            return mse((pre * torch.zeros_like(pre).scatter(1, pre.topk(5).indices, 1.0)).relu())
        case ReLU():
            return mse(pre.relu()) + 0.07 * (pre.relu() * norms).sum(1).mean()
        case Gated():
            latents = (sae.r_mag.exp() * read + sae.b_mag).relu() * (pre > 0)
            return mse(latents) + 0.07 * (pre.relu() * norms).sum(1).mean() + mse(pre.relu(), torch.detach)
        case JumpReLU():
            window = ((pre - sae.threshold).abs() < 0.3).double().detach() / 0.6
            moved = window * (sae.threshold - sae.threshold.detach())
            on = (pre > sae.threshold).double()
            return mse(pre * on - sae.threshold.detach() * moved) + 1e-3 * (on - moved).sum(1).mean()


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.__name__)
def test_gradients_are_those_of_dense_autograd(variant):
    torch.manual_seed(0)
    sae = crosscoder(variant, aux_coefficient=0.0).double()
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            if name != "threshold":
                parameter.add_(0.3 * torch.randn_like(parameter))
    x = samples(BATCH, 2).double()
    loss, wanted = sae.loss_terms(x, 0)["loss"], dense_loss(sae, x)
    torch.testing.assert_close(loss, wanted)
    names, parameters = zip(*sae.named_parameters(), strict=True)
    for name, left, right in zip(
        names, torch.autograd.grad(loss, parameters), torch.autograd.grad(wanted, parameters), strict=True
    ):
        torch.testing.assert_close(left, right, msg=name)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.__name__)
def test_of_one_part_it_is_the_sae_to_the_bit(variant):
    x, shared = samples(512), {"d_sae": D_SAE, "init": CovarianceMatched(), "dead_after_samples": 300}
    shared = SETTINGS[variant] | {"aux_coefficient": 0.1} | shared | {"scale_input": True}
    sae, one = variant(D_IN, **shared), variant(D_IN, crosscoder=True, widths={"only": D_IN}, **shared)
    for own in (sae, one):
        own.initialise(0, x)
        own.samples_since_fired[:9] = 300  # dead, so that AuxK takes part
        steps(own, x[:256])
    for name, tensor in sae.state_dict().items():
        assert torch.equal(tensor.expand_as(one.state_dict()[name]), one.state_dict()[name]), name
    assert torch.equal(sae.eval()(x), one.eval()(x))


def test_each_part_is_scaled_centred_and_started_by_itself():
    x = samples()
    sae = crosscoder(TopK, init=CovarianceMatched())
    norms = [(x * sae.input_scale)[:, own].square().sum(1).mean() for own in (EARLY, LATE)]
    torch.testing.assert_close(torch.stack(norms), torch.full((2,), 0.5))
    for own in (EARLY, LATE):
        alone = TopK(x[:, own].shape[1], d_sae=8, k=2)
        alone.initialise(0, x[:, own])
        torch.testing.assert_close(sae.b_dec[own] / sae.input_scale[own], alone.b_dec, rtol=1e-4, atol=1e-4)
    shares = norm_shares(sae.W_dec, sae.columns)
    torch.testing.assert_close(shares.sum(0), torch.ones(D_SAE))
    assert 0.3 < shares[1].mean() < 0.7, "its start is not of the part with the largest norms"


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.__name__)
def test_a_saved_one_keeps_scales_and_norms(variant, tmp_path):
    x = samples()
    sae = steps(crosscoder(variant), x[:BATCH]).eval()
    sae.save(tmp_path)
    loaded = SparseAutoencoder.load(tmp_path)
    assert (type(loaded), loaded.columns) == (variant, {"early": EARLY, "late": LATE})
    for name in ("W_enc", "W_dec", "input_scale"):
        assert torch.equal(getattr(loaded, name), getattr(sae, name)), name
    assert torch.equal(loaded(x), sae(x))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="crosscoder=true and one activation without parts: expected data with"):
        TopK(D_IN, d_sae=8, k=2, crosscoder=True)
    with pytest.raises(ValueError, match=r"d_in=6, and the widths .* have the sum 7"):
        TopK(6, d_sae=8, k=2, crosscoder=True, widths=WIDTHS)
    for option in ({"d_out": 3}, {"source": "early", "target": "late"}, {"input_norm": "center"}):
        with pytest.raises(ValueError, match=f"crosscoder=true and {next(iter(option))}="):
            TopK(D_IN, d_sae=8, k=2, crosscoder=True, widths=WIDTHS, **option)
    with pytest.raises(ValueError, match="a Pursuit takes an SAE of one place of a model, and a crosscoder"):
        Pursuit(D_IN, d_sae=8, l0=2.0, crosscoder=True, widths=WIDTHS)
    with (
        pytest.raises(ValueError, match="attach takes an SAE of one place"),
        crosscoder(TopK).eval().attach(torch.nn.Identity(), "x"),
    ):
        pass
