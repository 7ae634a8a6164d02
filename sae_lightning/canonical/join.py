"""The stitched SAE: a small SAE with latents of a large one beside its own, as one JumpReLU SAE.

Each latent keeps its encoder, its bias, its threshold and, through them, its SAE's input scale and `b_dec`; what is
added to the reconstruction is `b_dec` of the small SAE. JumpReLU has a threshold for each latent, so it is the same
function as both encoders side by side wherever a latent has a threshold of its own.
"""

import torch
from jaxtyping import Int64
from torch import Tensor

from sae_lightning.saes import JumpReLU, SparseAutoencoder


@torch.no_grad()
def join(small: SparseAutoencoder, large: SparseAutoencoder, inserted: Int64[Tensor, " n"]) -> JumpReLU:
    """The small SAE with these latents of the large one after its own, in the units of the activations.

    Raises:
        ValueError: if one of them has latents without thresholds of their own, as TopK.
    """
    parts = [_encoder(small), tuple(of[..., inserted] for of in _encoder(large))]
    W_enc, b_enc, threshold = (torch.cat(of, -1) for of in zip(*parts, strict=True))  # noqa: N806
    sae = JumpReLU(small.d_in, d_sae=len(b_enc), scale_input=False, apply_b_dec_to_input=False, seed=small.seed).to(
        b_enc.device
    )
    sae.W_enc.copy_(W_enc)
    sae.b_enc.copy_(b_enc)
    sae.threshold.copy_(threshold)
    sae.W_dec.copy_(torch.cat([small.W_dec, large.W_dec[inserted]]))
    sae.W_dec_start.copy_(torch.cat([small.W_dec_start, large.W_dec_start[inserted]]))
    sae.b_dec.copy_(small.b_dec / small.input_scale)
    sae.policy_name = "stitched"
    return sae.eval()


def _encoder(sae: SparseAutoencoder) -> tuple[Tensor, Tensor, Tensor]:
    """W_enc, b_enc and thresholds that give latents of raw activations in raw units."""
    W_enc, b_enc, threshold = sae.thresholded()  # noqa: N806
    if sae.apply_b_dec_to_input:
        b_enc = b_enc - sae.b_dec @ W_enc
    return W_enc, b_enc / sae.input_scale, threshold / sae.input_scale
