"""What an SAE does on activations: l0, explained variance, latents that never fire."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from sae_lightning.metrics import ExplainedVariance, Sparsity
from sae_lightning.saes import SparseAutoencoder


@dataclass(frozen=True)
class Measured:
    """Numbers on some activations.

    Args:
        n: number of activations.
        l0: mean number of active latents.
        explained_variance: in (-inf, 1].
        never_active: latents that fired on none.
        loss_recovered: share of the language model's loss that the reconstruction keeps, over mean ablation; None
            where it was not measured.
    """

    n: int
    l0: float
    explained_variance: float
    never_active: int
    loss_recovered: float | None = None

    def plain(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@torch.no_grad()
def measure(sae: SparseAutoencoder, batches: Iterable[Tensor], least: float = 0.0) -> Measured:
    """Encode and reconstruct activations.

    Args:
        sae: in evaluation mode.
        batches: [n, d_in] each.
        least: latents that are not above this are left out.

    Raises:
        ValueError: if there are none.
    """
    device = sae.W_dec.device
    variance, sparsity = ExplainedVariance(sae.d_in).to(device), Sparsity(sae.d_sae).to(device)
    for batch in batches:
        x = batch.to(device).float()
        code = sae.encode(x)
        if least > 0:
            code = code.where(code.values > least)
        variance.update(x, sae.decode(code))
        sparsity.update(code)
    values = sparsity.compute()
    if not int(values["n_samples"]):
        raise ValueError("there are no activations to measure on")
    n_never = round(float(values["dead_fraction"]) * sae.d_sae)
    return Measured(int(values["n_samples"]), float(values["l0"]), float(variance.compute()), n_never)
