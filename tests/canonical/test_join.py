import pytest
import torch
from canonical.pairs import D_IN, data, features, random_sae

from sae_lightning.canonical.join import join
from sae_lightning.saes import BatchTopK, Gated, JumpReLU, MatryoshkaBatchTopK, ReLU, SparseAutoencoder, TopK

INSERTED = torch.tensor([3, 0, 11])


@pytest.mark.parametrize("variant", [ReLU, BatchTopK, MatryoshkaBatchTopK, JumpReLU, Gated])
@pytest.mark.parametrize("apply_b_dec_to_input", [True, False])
def test_both_encoders_side_by_side(variant, apply_b_dec_to_input, tmp_path):
    x = data(features(8)) + 0.2
    sizes = {"k": 3} if issubclass(variant, BatchTopK) else {}
    small = random_sae(10, 1, variant, x, apply_b_dec_to_input=apply_b_dec_to_input, **sizes)
    large = random_sae(24, 2, ReLU, 3 * x)
    if variant is Gated:
        with torch.no_grad():
            small.b_mag.copy_(torch.randn(10) / 10)
            small.r_mag.copy_(torch.randn(10) / 10)
    assert small.input_scale != large.input_scale
    sae = join(small, large, INSERTED)
    own, other = (of.encode(x).to_dense() / of.input_scale for of in (small, large))
    assert other[:, INSERTED].any(0).all()
    expected = torch.cat([own, other[:, INSERTED]], 1)
    assert torch.allclose(sae.encode(x).to_dense(), expected, atol=1e-5)
    assert torch.allclose(sae(x), small(x) + other[:, INSERTED] @ large.W_dec[INSERTED], atol=1e-5)
    sae.save(tmp_path)
    loaded = SparseAutoencoder.load(tmp_path)
    assert (loaded.d_in, loaded.d_sae, loaded.policy_name) == (D_IN, 13, "stitched")
    assert torch.equal(loaded(x), sae(x))


def test_latents_that_compete_are_refused():
    with pytest.raises(ValueError, match="TopK: a latent is active or not depending on the others"):
        join(random_sae(10, 1, TopK, k=3), random_sae(24, 2, TopK, k=3), INSERTED)
