"""The SAE whose latents are pursued: it is not trained, and its l0 may be a fraction."""

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from sae_lightning.saes import Pursuit, SparseAutoencoder

D_IN, D_SAE = 16, 64


def started(l0=3.0, **kwargs):
    sae = Pursuit(D_IN, l0=l0, d_sae=D_SAE, **kwargs)
    sae.initialise(0, data())
    return sae.eval()


def data(n=2000, seed=0):
    return torch.randn(n, D_IN, generator=torch.Generator().manual_seed(seed)) + 1


@pytest.mark.parametrize("l0", [0.3, 1.0, 3.4, 9.9])
def test_a_fraction_is_met_on_average(l0, tmp_path):
    sae = started()
    sae.calibrate(data() - sae.b_dec, l0)
    assert float(sae.encode(data()).l0().double().mean()) == pytest.approx(l0, rel=0.02)
    counts = sae.encode(data(seed=1)).l0()
    assert float(counts.double().mean()) == pytest.approx(l0, rel=0.05 if l0 > 1 else 0.12)  # 2000 activations each
    assert {int(l0)} <= set(counts.tolist()) <= {int(l0) - 1, int(l0), int(l0) + 1}
    sae.save(tmp_path)
    loaded = SparseAutoencoder.load(tmp_path)
    assert torch.equal(loaded.encode(data(seed=1)).to_dense(), sae.encode(data(seed=1)).to_dense())


def test_one_more_goes_to_what_is_explained_least():
    sae = started(3.0)
    few = torch.linalg.vector_norm(data() - sae(data()), dim=1)
    sae.calibrate(data() - sae.b_dec, 3.25)
    more = sae.encode(data()).l0() == 4
    assert 0.24 < more.double().mean() < 0.26
    assert few[more].min() >= few[~more].max()
    assert (torch.linalg.vector_norm(data() - sae(data()), dim=1)[more] < few[more]).all()


@pytest.mark.parametrize("norm", ["layer_norm", "unit_norm", "center"])
def test_normalised_activations(norm):
    sae = started(input_norm=norm)
    x = data(seed=1)
    left = (x - sae(x)).square().sum() / (x - x.mean(0)).square().sum()
    assert 0.1 < left < 0.7


def test_it_is_not_trained(tmp_path):
    sae = started()
    with pytest.raises(ValueError, match="not learned: train another variant"):
        sae.losses(data(), 0)
    trainer = Trainer(
        default_root_dir=tmp_path,
        max_steps=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    with pytest.raises(ValueError, match="not learned: train another variant"):
        trainer.fit(sae, DataLoader(data()), DataLoader(data()))


def test_what_is_refused():
    for name in ("apply_b_dec_to_input", "unit_norm_decoder"):
        with pytest.raises(ValueError, match=f"^{name}=False: a Pursuit"):
            Pursuit(D_IN, l0=2.0, d_sae=D_SAE, **{name: False})
    with pytest.raises(ValueError, match="^l0=17: expected at most 16, since d_in=16 and d_sae=64"):
        Pursuit(D_IN, l0=17.0, d_sae=D_SAE)
