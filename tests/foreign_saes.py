"""Random weights, as tests write them into the files of other libraries, and what an SAE of ours makes of them."""

import torch

from sae_lightning.saes import SparseAutoencoder

D_IN, D_SAE, K = 5, 12, 3


def random_weights(seed=0):
    """Weights in our orientation; some rows of the decoder are longer than others, and no bias is zero."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"W_enc": (D_IN, D_SAE), "W_dec": (D_SAE, D_IN), "b_enc": (D_SAE,), "b_dec": (D_IN,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def samples(n=64, seed=1):
    return torch.randn(n, D_IN, generator=torch.Generator().manual_seed(seed))


def top_k(pre_acts, k=K):
    """The k largest of each row, the others zero."""
    values, indices = pre_acts.topk(k, dim=-1)
    return torch.zeros_like(pre_acts).scatter(-1, indices, values)


def assert_computes(sae, x, latents, reconstruction):
    """An SAE, or the path of one, has these dense latents and this reconstruction."""
    sae = sae if isinstance(sae, SparseAutoencoder) else SparseAutoencoder.load(sae)
    torch.testing.assert_close(sae.encode(x).to_dense(), latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sae(x), reconstruction, atol=1e-5, rtol=1e-5)


def start(variant, **settings):
    """An SAE of ours with random weights and biases."""
    sae = variant(D_IN, d_sae=D_SAE, unit_norm_decoder=False, **settings)
    sae.load_state_dict(random_weights(), strict=False)
    return sae.eval()
