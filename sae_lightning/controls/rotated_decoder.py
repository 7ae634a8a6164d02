"""An SAE whose decoder is rotated as a whole: does it matter where its directions point?"""

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.controls.changed_decoder import ChangedDecoder
from sae_lightning.controls.cost import Cost
from sae_lightning.metrics.rotation import random_rotation
from sae_lightning.saes import SparseAutoencoder


class RotatedDecoder(ChangedDecoder):
    """The SAE itself, its decoder turned by one random rotation of the space in which it writes.

    Norms of decoder directions and angles between them are the same to rounding.
    """

    controls_for = "where decoder directions point, beside how they lie to one another"

    def changed(
        self,
        W_dec: Float[Tensor, "d_sae d_out"],  # noqa: N803 - the name it has everywhere
        generator: torch.Generator,
    ) -> Float[Tensor, "d_sae d_out"]:
        """Return the rows in turned coordinates."""
        return W_dec @ random_rotation(W_dec.shape[1], generator).to(W_dec)

    def cost(self, sae: SparseAutoencoder, n_samples: int, n_held_out: int, l0: float) -> Cost:
        """Return the cost of encoding what it is measured on, and of the rotation."""
        rotation = Cost(4.0 * sae.d_out**3 + 2.0 * sae.d_sae * sae.d_out**2, memory=16.0 * sae.d_out**2)
        return super().cost(sae, n_samples, n_held_out, l0) + rotation
