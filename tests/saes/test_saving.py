"""Files that are no SAE, or one of another version, are named; what is not finite is not saved."""

import json

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from sae_lightning.saes import BatchTopK, SparseAutoencoder, TopK
from sae_lightning.saes.saving import dead_latents, folded_scale


@pytest.fixture
def folder(tmp_path):
    TopK(8, k=2, d_sae=16).save(tmp_path)
    return tmp_path


def change(folder, **values):
    path = folder / "sae.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_provenance_is_kept_and_passed_on(tmp_path):
    sae = TopK(8, k=2, d_sae=16)
    sae.provenance = {"activations": {"hook": "model.layers.1"}}
    sae.save(tmp_path / "one")
    loaded = SparseAutoencoder.load(tmp_path / "one")
    assert loaded.provenance == sae.provenance
    loaded.save(tmp_path / "two")
    assert json.loads((tmp_path / "two/sae.json").read_text())["provenance"] == sae.provenance


def test_a_file_of_format_1_is_read(folder):
    manifest = json.loads((folder / "sae.json").read_text())
    del manifest["provenance"]
    (folder / "sae.json").write_text(json.dumps(manifest | {"format_version": 1}))
    assert SparseAutoencoder.load(folder).provenance == {}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"format_version": 6}, "has format_version 6, written by sae_lightning .*reads up to 5: take a newer one"),
        ({"format_version": None}, "has format_version None"),
        ({"format": "saelens"}, r"is not of an SAE of sae_lightning \(format 'saelens'\)"),
        ({"class": "TopKK"}, "class 'TopKK' is not a variant"),
        ({"settings": {"d_in": 8}}, "sae.json is damaged"),
        ({"settings": {"d_in": 8, "d_sae": 16, "seed": 0, "k": 2, "kk": 3}}, "sae.json is damaged"),
        ({"settings": {"d_in": 8, "d_sae": 12, "seed": 0, "k": 2}}, "the two files do not belong together"),
        ({"dead": [99]}, "sae.json is damaged"),
    ],
)
def test_a_manifest_that_does_not_fit_is_named(folder, values, expected):
    change(folder, **values)
    with pytest.raises(ValueError, match=expected):
        SparseAutoencoder.load(folder)


@pytest.mark.parametrize("text", ["", '{"format": "sae_li', "[1]", "\x00\x01"])
def test_a_damaged_manifest_is_named_by_all_that_read_it(folder, text):
    (folder / "sae.json").write_text(text)
    for read in (SparseAutoencoder.load, dead_latents, folded_scale):
        with pytest.raises(ValueError, match=r"sae\.json"):
            read(folder)


@pytest.mark.parametrize("n_bytes", [0, 40, 600])
def test_tensors_that_are_cut_off_are_named(folder, n_bytes):
    path = folder / "sae.safetensors"
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(ValueError, match=r"sae\.safetensors is damaged, cut off or no safetensors file"):
        SparseAutoencoder.load(folder)


def test_what_is_not_finite_is_not_saved_and_the_older_file_stays(folder):
    before = (folder / "sae.safetensors").read_bytes()
    sae = TopK(8, k=2, d_sae=16)
    with torch.no_grad():
        sae.W_dec[3, 2], sae.b_enc[0] = torch.nan, torch.inf
    with pytest.raises(ValueError, match="not finite: 1 in .*W_dec, 1 in b_enc|not finite: 1 in .*b_enc"):
        sae.save(folder)
    assert (folder / "sae.safetensors").read_bytes() == before


def test_the_scale_that_was_folded_in_is_kept(tmp_path):
    x = 40 * torch.randn(4096, 8) + 7
    sae = TopK(8, k=2, d_sae=16, scale_input=True)
    sae.initialise(0, x)
    sae.save(tmp_path)
    trained, exported = sae.eval().encode(x).values, SparseAutoencoder.load(tmp_path).encode(x).values
    torch.testing.assert_close(trained, exported * folded_scale(tmp_path), rtol=1e-4, atol=1e-4)


def test_an_sae_from_a_file_is_trained_in_training_mode(tmp_path):
    """Lightning leaves modules in the mode that they are in, and BatchTopK would select by its threshold."""
    sae = BatchTopK(8, d_sae=16, k=2)
    x = torch.randn(64, 8)
    sae.initialise(0, torch.randn(4096, 8))
    sae.losses(x, 0)
    sae.save(tmp_path)
    loaded = SparseAutoencoder.load(tmp_path)
    with pytest.raises(ValueError, match="is in evaluation mode"):
        loaded.losses(x, 0)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "limit_val_batches": 0}
    loader = DataLoader(3 * x, batch_size=64)
    Trainer(max_steps=1, default_root_dir=tmp_path, **quiet).fit(loaded, loader, loader)
    assert loaded.threshold != sae.threshold
