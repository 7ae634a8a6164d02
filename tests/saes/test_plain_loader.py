"""A Trainer and a plain DataLoader are enough: for every variant, start and scaling, without a datamodule."""

from itertools import product

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, TensorDataset
from training import VARIANTS, subclasses

from sae_lightning.panel import SanityPanel
from sae_lightning.saes import DecoderInit, TopK, TrueFeatures

D_IN, BATCH = 8, 64
X = 3 * torch.randn(1024, D_IN, generator=torch.Generator().manual_seed(0)) + 5
INITS = [init for init in subclasses(DecoderInit) if init is not TrueFeatures]


def fit(module, folder, x=X, **kwargs):
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, **kwargs,
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(x), batch_size=BATCH), DataLoader(TensorDataset(X), batch_size=BATCH))
    return module


@pytest.mark.parametrize(
    ("variant", "init", "scale_input"),
    list(product(VARIANTS, INITS, [False, True])),
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value),
)
def test_every_variant_trains(variant, init, scale_input, tmp_path):
    sae = fit(variant(D_IN, d_sae=32, init=init(), scale_input=scale_input), tmp_path)
    scale = sae.input_scale.item()
    assert scale == (pytest.approx(X.square().sum(1).mean().rsqrt().item()) if scale_input else 1.0)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(32))
    assert (sae.W_dec - sae.W_dec_start).abs().max() > 0
    error = (sae.eval()(X) - X).square().sum(1).mean()
    assert error < X.square().sum(1).mean(), "it reconstructs more than nothing"


def test_the_start_is_that_of_the_same_data_in_a_datamodule(tmp_path):
    """The first batches decide it, and training begins with them all the same."""
    seen = []

    class Watched(TopK):
        def loss_terms(self, x, step):
            seen.append(x)
            return super().loss_terms(x, step)

    sae = fit(Watched(D_IN, k=4, d_sae=32, scale_input=True), tmp_path)
    assert torch.equal(torch.cat(seen), X)
    torch.testing.assert_close(sae.input_scale, X.square().sum(1).mean().rsqrt())


def test_a_panel_trains(tmp_path):
    panel = fit(SanityPanel(D_IN, lambda d_in: TopK(d_in, k=4, d_sae=32, scale_input=True)), tmp_path)
    for sae in panel.members.values():
        assert sae(X).isfinite().all()


def test_an_oracle_needs_more_than_a_loader(tmp_path):
    with pytest.raises(ValueError, match="TrueFeatures needs data whose true features are known"):
        fit(TopK(D_IN, k=4, d_sae=32, init=TrueFeatures()), tmp_path)


def test_a_number_that_is_not_finite_is_found_before_an_sae_starts_from_it(tmp_path):
    x = X.clone()
    x[70, 2] = torch.nan
    with pytest.raises(ValueError, match=r"not finite, first nan at \[(70|6), 2\]"):
        fit(TopK(D_IN, k=4, d_sae=32, scale_input=True), tmp_path, x)


@pytest.mark.parametrize("name", ["gradient_clip_val", "accumulate_grad_batches", "log_every_n_steps"])
def test_a_trainer_with_numbers_out_of_range_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=f"trainer.{name}=-1: expected a"):
        fit(TopK(D_IN, k=4, d_sae=32), tmp_path, **{name: -1})


@pytest.mark.parametrize("lr", [1e30, float("inf")])
def test_a_learning_rate_that_no_weight_survives_is_refused(lr, tmp_path):
    with pytest.raises(ValueError, match=r"lr=\S+: expected a number from 0 to 1000"):
        fit(TopK(D_IN, k=4, d_sae=32, optimizer=lambda params: torch.optim.Adam(params, lr=lr)), tmp_path)
