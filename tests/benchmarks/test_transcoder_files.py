"""A transcoder of ours, in the files of others that say the same, and permuted."""

import pytest
import torch
from foreign_saes import assert_computes

from benchmarks.check import transcoder_files
from sae_lightning.formats import reading
from sae_lightning.saes import BatchTopK, SparseAutoencoder

WIDTH, D_SAE = 6, 20
HOOKS = ("model.layers.2.post_attention_layernorm", "model.layers.2.mlp")


@pytest.mark.parametrize("skip", [False, True])
@torch.no_grad()
def test_they_compute_the_same_and_say_their_hooks(tmp_path, skip):
    generator = torch.Generator().manual_seed(0)
    x, y = 3 * torch.randn(2, 4096, WIDTH, generator=generator)
    ours = BatchTopK(WIDTH, d_sae=D_SAE, k=3, d_out=WIDTH, skip=skip)
    ours.initialise(0, x, y)
    ours.threshold.fill_(0.5)
    if skip:
        ours.W_skip.normal_(generator=generator)
    ours.provenance = dict(zip(("activations", "target"), ({"hook": hook} for hook in HOOKS), strict=True))
    ours.eval().save(tmp_path / "ours")
    transcoder_files.main(str(tmp_path / "ours"), tmp_path)
    latents, answer = ours.encode(x[:64]).to_dense(), ours(x[:64])
    names = {"saelens": HOOKS, "gemma_scope_2": tuple(f"{hook}.output" for hook in HOOKS)}
    names |= {} if skip else {"llama_scope": ("blocks.2.ln2.hook_normalized", "blocks.2.hook_mlp_out")}
    for name, hooks in names.items():
        assert_computes(tmp_path / name, x[:64], latents, answer)
        stored = reading.read(tmp_path / name)
        assert (stored.stated["hook"], stored.stated["target"]) == hooks, name
    assert (tmp_path / "llama_scope").exists() != skip
    permuted = SparseAutoencoder.load(tmp_path / "permuted")
    assert torch.equal(permuted.encode(x[:64]).to_dense(), latents)
    cosines = permuted.W_dec @ SparseAutoencoder.load(tmp_path / "ours").W_dec.T
    assert sorted(cosines.argmax(1).tolist()) == list(range(D_SAE))
    assert (cosines.argmax(1) != torch.arange(D_SAE)).all()
