"""The stitched SAE against `Stitcher`, which says what it is to be: every variant, every step of the curve."""

import json

import pytest
import torch
from lightning.pytorch import Trainer
from stitching.pairs import D_IN, data, features, random_sae
from torch.utils.data import DataLoader
from training import VARIANTS, fit

from sae_lightning.evaluators import Reconstruction, Sparsity
from sae_lightning.saes import BatchTopK, Gated, ReLU, SparseAutoencoder, Stitched, TopK
from sae_lightning.stitching.curve import Stitcher, schedule

pytestmark = pytest.mark.usefixtures("plain_or_fast")


def pair(variant, x, small=10, large=24, **kwargs):
    """Two SAEs of a variant with different scales and biases."""
    kwargs |= {"k": 3} if issubclass(variant, TopK | BatchTopK) else {}
    saes = [random_sae(small, 1, variant, x, **kwargs), random_sae(large, 2, variant, 1.2 * x, **kwargs)]
    generator = torch.Generator().manual_seed(4)
    for sae in saes:
        with torch.no_grad():
            sae.b_dec.copy_(torch.randn(D_IN, generator=generator) / 20)
            if variant is Gated:
                sae.b_mag.copy_(torch.randn(sae.d_sae, generator=generator) / 10)
                sae.r_mag.copy_(torch.randn(sae.d_sae, generator=generator) / 10)
    assert saes[0].input_scale != saes[1].input_scale != 1
    return saes


def stitcher_of(small, large):
    """A curve with all three phases."""
    change = torch.randn(large.d_sae, generator=torch.Generator().manual_seed(5))
    of_small, of_large = torch.full((small.d_sae,), -1), torch.full((large.d_sae,), -1)
    of_small[:3], of_large[[1, 5, 6]] = torch.arange(3), torch.arange(3)
    return Stitcher(small, large, schedule(change, change < -0.3, of_small, of_large, torch.rand(large.d_sae), 3))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.__name__)
@pytest.mark.parametrize("apply_b_dec_to_input", [True, False])
def test_it_is_what_the_stitcher_says_at_every_step(variant, apply_b_dec_to_input, tmp_path):
    x = data(features(8)) + 0.2
    small, large = pair(variant, x, apply_b_dec_to_input=apply_b_dec_to_input)
    of = stitcher_of(small, large)
    dense = [sae.encode(x).to_dense() / sae.input_scale for sae in (small, large)]
    for step, (x_hat, active) in enumerate(of.steps(x)):
        kept, inserted = of.latents_at(step)
        of.sae(step).save(tmp_path / str(step))
        sae = SparseAutoencoder.load(tmp_path / str(step))
        assert (type(sae), sae.d_sae, sae.policy_name) == (Stitched, len(kept) + len(inserted), "stitched")
        code = sae.encode(x)
        assert torch.allclose(code.to_dense(), torch.cat([dense[0][:, kept], dense[1][:, inserted]], 1), atol=1e-5)
        assert int(code.l0().sum()) == active
        assert torch.allclose(sae.decode(code), x_hat, atol=1e-5)
        assert torch.equal(sae.W_dec, torch.cat([small.W_dec[kept], large.W_dec[inserted]]))
    assert dense[1][:, inserted].any()


def test_a_latent_that_is_left_out_still_competes(tmp_path):
    x = data(features(8)) + 0.2
    small, large = pair(TopK, x)
    inserted = [3, 0, 11]
    Stitched(small, large, range(10), inserted).save(tmp_path)
    latents = SparseAutoencoder.load(tmp_path).encode(x).to_dense()[:, 10:]
    assert torch.allclose(latents, large.encode(x).to_dense()[:, inserted] / large.input_scale, atol=1e-5)
    alone = TopK(D_IN, d_sae=3, k=3)
    for name in ("W_enc", "b_enc", "b_dec"):
        of = getattr(large, name).detach()
        getattr(alone, name).data.copy_(of if name == "b_dec" else of[..., inserted])
    assert (alone.encode(x * large.input_scale).to_dense() != 0).sum() > (latents != 0).sum()


def test_saes_from_files_are_stitched_to_the_bit(tmp_path):
    """As `sae stitch` does: their scales are folded in, and nothing is left to round."""
    x = data(features(8)) + 0.2
    for name, sae in zip(("small", "large"), pair(TopK, x), strict=True):
        sae.save(tmp_path / name)
    small, large = (SparseAutoencoder.load(tmp_path / name) for name in ("small", "large"))
    Stitched(small, large, range(10), range(24)).save(tmp_path / "both")
    latents = SparseAutoencoder.load(tmp_path / "both").encode(x).to_dense()
    assert torch.equal(latents, torch.cat([small.encode(x).to_dense(), large.encode(x).to_dense()], 1))


def test_it_is_stitched_again(tmp_path):
    """Also of two variants, and at each saving everything is still there."""
    x = data(features(8)) + 0.2
    (small, _), (_, large) = pair(TopK, x), pair(ReLU, x)
    once = Stitched(small, large, [1, 4], [7])
    once.save(tmp_path / "once")
    twice = Stitched(SparseAutoencoder.load(tmp_path / "once"), large, [2, 0], [3])
    twice.save(tmp_path / "twice")
    found = SparseAutoencoder.load(tmp_path / "twice").encode(x).to_dense()
    own, other = (sae.encode(x).to_dense() / sae.input_scale for sae in (small, large))
    assert torch.allclose(found, torch.stack([other[:, 7], own[:, 1], other[:, 3]], 1), atol=1e-5)


def test_dead_latents_stay_dead(tmp_path):
    small, large = pair(TopK, data(features(8)))
    small.samples_since_fired[4] = small.dead_after_samples
    large.samples_since_fired[[2, 5]] = large.dead_after_samples
    Stitched(small, large, [3, 4], [5, 1]).save(tmp_path)
    assert json.loads((tmp_path / "sae.json").read_text())["dead"] == [1, 2]
    assert SparseAutoencoder.load(tmp_path).dead.tolist() == [False, True, True, False]


def test_evaluators_take_it():
    x = data(features(8)) + 0.2
    sae = stitcher_of(*pair(TopK, x)).sae(2)
    callbacks = [Reconstruction(), Sparsity()]
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "barebones": False}
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=callbacks, **quiet)
    [found] = trainer.validate(sae, DataLoader(x, batch_size=64), verbose=False)
    expected = 1 - float((x - sae(x)).square().sum() / (x - x.mean(0)).square().sum())
    assert found["val/explained_variance/stitched/1"] == pytest.approx(expected, abs=1e-5)
    assert found["val/l0/stitched/1"] == pytest.approx(float(sae.encode(x).l0().double().mean()))


def test_both_take_the_same_activations_and_nothing_is_trained(tmp_path):
    with pytest.raises(ValueError, match="small has d_in=12 and large d_in=8"):
        Stitched(random_sae(10, 1, ReLU), TopK(8, k=2, d_sae=16), [0], [1])
    sae = Stitched(TopK(8, k=2, d_sae=16), TopK(8, k=2, d_sae=32), range(16), [1])
    with pytest.raises(ValueError, match="put together by `sae stitch --save` and not trained"):
        fit(sae, tmp_path)
