"""An SAE whose decoder is rotated as a whole: does it matter where its directions point?"""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.controls.base import Control
from sae_lightning.controls.cost import Cost, of_encoding
from sae_lightning.controls.permuted_decoder import new_like, take_tensors
from sae_lightning.saes import SparseAutoencoder


class RotatedDecoder(Control):
    """The SAE itself, its decoder turned by one random rotation of the space in which it writes.

    Latents are the same to the bit, norms of decoder directions and angles between them the same to rounding.
    """

    controls_for = "where decoder directions point, beside how they lie to one another"
    is_random: ClassVar[bool] = True
    of_transcoders = True

    def new(self, sae: SparseAutoencoder) -> SparseAutoencoder:
        """Return an SAE of the same class and settings."""
        return new_like(sae)

    def most_l0(self, sae: SparseAutoencoder) -> int:
        """Return the number of latents."""
        return sae.d_sae

    def _fill(
        self,
        own: SparseAutoencoder,
        sae: SparseAutoencoder,
        x: Tensor,
        y: Tensor,
        l0: float,
        generator: torch.Generator,
    ) -> None:
        take_tensors(own, sae)
        own.W_dec.data = own.W_dec.detach() @ random_rotation(sae.d_out, generator).to(own.W_dec)

    def cost(self, sae: SparseAutoencoder, n_samples: int, n_held_out: int, l0: float) -> Cost:
        """Return the cost of encoding what it is measured on, and of the rotation."""
        encoding = of_encoding(n_held_out, sae.d_in, sae.d_sae, l0)
        return encoding + Cost(4.0 * sae.d_out**3 + 2.0 * sae.d_sae * sae.d_out**2, memory=16.0 * sae.d_out**2)


def random_rotation(d: int, generator: torch.Generator) -> Float[Tensor, "d d"]:
    """Return an orthogonal matrix from the uniform distribution (Mezzadri 2007, math-ph/0609050), in float32."""
    q, r = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))
    return (q * r.diagonal().sign()).float()
