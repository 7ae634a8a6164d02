"""The l0 of an SAE on some activations."""

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.saes.base import SparseAutoencoder

_BLOCK = 4096


@torch.no_grad()
def measured_l0(sae: SparseAutoencoder, samples: Float[Tensor, "n d_in"]) -> float:
    """Return the mean number of latents that are active on a sample.

    Args:
        sae: in evaluation mode.
        samples: raw activations, on its device.

    Raises:
        ValueError: if no latent ever fires: there is no l0 at which anything could be compared.
    """
    l0 = sum(sae.encode(block).nnz for block in samples.split(_BLOCK)) / len(samples)
    if not l0:
        raise ValueError(
            f"no latent of this {type(sae).__name__} fires on any of {len(samples):,} activations: it is of another "
            "model or hook, or was read wrong (sae inspect says more)"
        )
    return l0
