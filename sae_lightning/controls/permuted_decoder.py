"""An SAE whose decoder is permuted against its encoder: does it matter which direction belongs to which latent?"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_lightning.controls.changed_decoder import ChangedDecoder
from sae_lightning.saes import SparseAutoencoder


class PermutedDecoder(ChangedDecoder):
    """The SAE itself, each latent with the decoder direction of another; it keeps the norm of its own row.

    Rows of zeros, which have no direction, stay where they are.
    """

    controls_for = "which direction belongs to which latent"

    def check(self, sae: SparseAutoencoder, l0: float) -> None:
        """Check that there are two directions that can change places.

        Raises:
            ValueError: if there are not.
        """
        super().check(sae, l0)
        if int(sae.W_dec.any(1).sum()) < 2:
            raise ValueError("fewer than two decoder rows are not zero: there is nothing to permute")

    def changed(
        self,
        W_dec: Float[Tensor, "d_sae d_out"],  # noqa: N803 - the name it has everywhere
        generator: torch.Generator,
    ) -> Float[Tensor, "d_sae d_out"]:
        """Return rows that have their own norms and the directions of others, none its own."""
        norms = torch.linalg.vector_norm(W_dec, dim=1)
        rows = norms.cpu().nonzero()[:, 0]
        source = rows[_cycle(len(rows), generator)]
        permuted = W_dec.clone()
        permuted[rows.to(W_dec.device)] = W_dec[source.to(W_dec.device)]
        scale = norms / torch.linalg.vector_norm(permuted, dim=1).clamp_min(torch.finfo(W_dec.dtype).tiny)
        return permuted.mul_(scale[:, None])


def _cycle(n: int, generator: torch.Generator) -> Int64[Tensor, " n"]:
    """Return a permutation that is one cycle through all, and so leaves nothing in its place."""
    order = torch.randperm(n, generator=generator)
    return torch.empty_like(order).index_put_((order,), order.roll(1))
