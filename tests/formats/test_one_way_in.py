"""Wherever an SAE is taken, one of another library will do."""

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from sae_lightning.datamodules import DecoderDirections
from sae_lightning.evaluators.meta_latents import _read
from sae_lightning.members import Member
from sae_lightning.saes import SparseAutoencoder, TopK
from sae_lightning.saes.record import provenance_of, record_of
from sae_lightning.saes.saving import dead_latents, knows_its_activations

ASSUMED = {"variant": "TopK", "k": 3, "apply_b_dec_to_input": True}


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """A folder that only another library's file is in, which says all."""
    sae = TopK(6, d_sae=20, k=3)
    sae.initialise(0, torch.randn(4096, 6))
    names = ("W_enc", "W_dec", "b_enc", "b_dec")
    tensors = {name: getattr(sae, name).detach().contiguous() for name in names}
    tensors["W_dec"] = tensors["W_dec"] * torch.linspace(0.5, 2, 20)[:, None]
    torch.save(tensors, tmp_path / "sae.pt")
    load = SparseAutoencoder.load
    monkeypatch.setattr(SparseAutoencoder, "load", staticmethod(lambda where: load(where, ASSUMED)))
    return tmp_path


def test_its_directions_are_rows_of_a_meta_sae(foreign):
    data = DecoderDirections([str(foreign)], drop_dead=False, batch_size=10)
    assert data.d_in == 6
    with pytest.raises(ValueError, match="does not say which latents are dead"):
        DecoderDirections([str(foreign)], drop_dead=True, batch_size=10)


def test_it_is_the_smaller_sae_of_meta_latents(foreign):
    latents = _read([str(foreign)], [7], 6, {})
    assert latents[20].shape == (20, 6)


def test_nothing_is_known_of_it_that_it_does_not_say(foreign):
    assert dead_latents(foreign) is None
    assert not knows_its_activations(foreign)


def test_an_sae_that_is_trained_on_keeps_what_it_started_from(foreign, tmp_path):
    sae = SparseAutoencoder.load(foreign)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "limit_val_batches": 0}
    loader = DataLoader(torch.randn(512, 6), batch_size=64)
    b_dec = sae.b_dec.detach().clone()
    trainer = Trainer(max_steps=1, default_root_dir=tmp_path, **quiet)
    trainer.fit(sae, loader, loader)
    provenance = provenance_of(sae, Member("trained", 0), record_of(sae))
    assert provenance["started_from"]["format"] == "plain"
    assert "imported" not in provenance
    torch.testing.assert_close(sae.b_dec, b_dec, atol=0.01, rtol=0)  # one step from where it was, and no new start
    assert not sae.unit_norm_decoder
    assert sae.W_dec.norm(dim=1).max() > 1.5
