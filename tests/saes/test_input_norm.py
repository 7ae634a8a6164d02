"""Activations that are normalised one by one, and decoders whose directions have other norms than 1."""

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from sae_lightning.causal.masks import Coordinates
from sae_lightning.freeze import SoftFrozenDecoder
from sae_lightning.saes import BatchTopK, Gated, JumpReLU, ReLU, SparseAutoencoder, Stitched, TopK
from sae_lightning.saes.input_norm import INPUT_NORMS, check_input_norm

D_IN, D_SAE = 5, 12
VARIANTS = (TopK, BatchTopK, ReLU, Gated, JumpReLU)


def data(n=256):
    return torch.randn(n, D_IN, generator=torch.Generator().manual_seed(0)) * 3 + torch.arange(D_IN)


def started(variant=TopK, **arguments):
    if issubclass(variant, TopK | BatchTopK):
        arguments = {"k": 3} | arguments
    sae = variant(D_IN, d_sae=D_SAE, scale_input=True, **arguments)
    sae.initialise(0, data(4096))
    sae.losses(data(), 0)  # gives BatchTopK its threshold
    return sae.eval()


def normalised(x, input_norm):
    """By the words of each norm, written out."""
    mean = x.mean(1, keepdim=True)
    if input_norm == "center":
        return x - mean, mean, torch.ones(len(x), 1)
    if input_norm == "layer_norm":
        scale = ((x - mean).square().sum(1, keepdim=True) / (D_IN - 1)).sqrt() + 1e-5
        return (x - mean) / scale, mean, scale
    scale = x.square().sum(1, keepdim=True).sqrt() / D_IN**0.5
    return x / scale, torch.zeros(len(x), 1), scale


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("input_norm", INPUT_NORMS)
def test_latents_are_those_of_normalised_activations(variant, input_norm):
    x, sae = data(), started(variant, input_norm=input_norm)
    x_normal, shift, scale = normalised(x, input_norm)
    without = started(variant, input_norm=input_norm)
    without.input_norm = None
    torch.testing.assert_close(sae.encode(x).to_dense(), without.encode(x_normal).to_dense(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sae(x), without(x_normal) * scale + shift, atol=1e-4, rtol=1e-5)


def test_a_row_of_zeros_stays_finite():
    for input_norm in INPUT_NORMS:
        assert started(input_norm=input_norm)(torch.zeros(1, D_IN)).isfinite().all()


def test_edited_latents_are_brought_back_by_the_norm_of_their_row():
    x, sae = data(), started(input_norm="layer_norm")
    code = sae.encode(x)
    order = torch.arange(len(x)).flip(0)
    for same in (code.with_values(code.values), code.where(code.values > -1), code.take(order).take(order)):
        torch.testing.assert_close(sae.decode(same), sae.decode(code))
    halves = type(code).join([code.take(order[:100]), code.take(order[100:])])
    torch.testing.assert_close(sae.decode(halves), sae.decode(code).flip(0))


def test_latents_without_norms_cannot_be_decoded():
    sae = started(input_norm="layer_norm")
    with pytest.raises(ValueError, match="input_norm=layer_norm, and the latents have no norms"):
        sae.decode(sae.encode(data()).to_dense())
    with pytest.raises(ValueError, match="input_norm=None, and the latents have some norms"):
        started().decode(sae.encode(data()))


def test_swaps_add_in_the_units_of_the_activation_that_is_edited():
    x, sae = data(8), started(input_norm="layer_norm")
    base, source = torch.arange(4), torch.arange(4, 8)
    swapped = Coordinates.of_sae(sae, x).swapped(base, source, torch.ones(D_SAE))
    code = sae.encode(x)
    as_base = code.take(source).with_row_norm(code.take(base).row_norm)
    torch.testing.assert_close(swapped, sae.decode(as_base), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("input_norm", INPUT_NORMS)
def test_it_is_trained_and_saved(input_norm, tmp_path):
    sae = TopK(D_IN, d_sae=D_SAE, k=3, scale_input=True, input_norm=input_norm)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "limit_val_batches": 0}
    loader = DataLoader(data(4096), batch_size=512)
    Trainer(max_steps=3, default_root_dir=tmp_path, **quiet).fit(sae, loader, loader)
    sae.eval().save(tmp_path / "sae")
    loaded = SparseAutoencoder.load(tmp_path / "sae")
    assert loaded.input_norm == input_norm
    torch.testing.assert_close(loaded(data()), sae(data()), atol=1e-4, rtol=1e-4)


def test_another_norm_is_refused():
    with pytest.raises(ValueError, match="input_norm='batch': expected center, layer_norm, unit_norm or null"):
        check_input_norm("batch")


def test_stitching_refuses_it():
    with pytest.raises(ValueError, match="large has input_norm=center"):
        Stitched(started(), started(input_norm="center"), [0], [1])


def test_directions_of_any_norm_are_left_as_they_are():
    sae = started(unit_norm_decoder=False).train()
    norms = torch.linspace(0.5, 2, D_SAE)
    with torch.no_grad():
        sae.W_dec.mul_(norms[:, None])
    sae.losses(data(), 0)["loss"].backward()
    gradient = sae.W_dec.grad.clone()
    sae.project_decoder_gradient()
    assert torch.equal(sae.W_dec.grad, gradient)
    sae.constrain()
    torch.testing.assert_close(sae.W_dec.norm(dim=1), norms)


@pytest.mark.parametrize("variant", [ReLU, Gated])
def test_a_penalty_cannot_be_evaded_by_larger_directions(variant):
    sae = started(variant, unit_norm_decoder=False).train()
    before = sae.losses(data(), 0)
    scale = 4.0
    with torch.no_grad():
        sae.W_dec.mul_(scale)
        for weight in (sae.W_enc, sae.b_enc, *((sae.b_mag,) if variant is Gated else ())):
            weight.div_(scale)
    after = sae.losses(data(), 0)
    torch.testing.assert_close(after["l1"], before["l1"])


def test_a_soft_freeze_needs_unit_vectors():
    with pytest.raises(ValueError, match="unit_norm_decoder=false"):
        SoftFrozenDecoder().freeze(started(unit_norm_decoder=False))
