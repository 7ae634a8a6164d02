"""What an SAE does on activations: l0, explained variance, latents that never fire.

A transcoder gets both of its sides, [n, d_in + d_out], and is measured against its target.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.metrics import ExplainedVariance, Sparsity
from sae_lightning.saes import SparseAutoencoder


@dataclass(frozen=True)
class Measured:
    """Numbers on some activations.

    Args:
        n: number of activations.
        l0: mean number of active latents.
        explained_variance: in (-inf, 1], of a transcoder that of its target.
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


def sides(sae: SparseAutoencoder, batch: Float[Tensor, "n width"]) -> tuple[Tensor, Tensor]:
    """Return what is read and what is to be reconstructed: of an SAE both times the same."""
    [member] = sae.members
    x, target = sae.activations_for(member, batch), sae.target_for(member, batch)
    return x, x if target is None else target


@torch.no_grad()
def measure(sae: SparseAutoencoder, batches: Iterable[Tensor], least: float = 0.0) -> Measured:
    """Encode and reconstruct activations.

    Args:
        sae: in evaluation mode.
        batches: [n, d_in] each, of a transcoder [n, d_in + d_out].
        least: latents that are not above this are left out.

    Raises:
        ValueError: if there are none.
    """
    device = sae.W_dec.device
    variance, sparsity = ExplainedVariance(sae.d_out).to(device), Sparsity(sae.d_sae).to(device)
    for batch in batches:
        x, target = sides(sae, batch.to(device).float())
        code = sae.encode(x)
        if least > 0:
            code = code.where(code.values > least)
        variance.update(target, sae.decode(code))
        sparsity.update(code)
    values = sparsity.compute()
    if not int(values["n_samples"]):
        raise ValueError("there are no activations to measure on")
    n_never = round(float(values["dead_fraction"]) * sae.d_sae)
    return Measured(int(values["n_samples"]), float(values["l0"]), float(variance.compute()), n_never)
