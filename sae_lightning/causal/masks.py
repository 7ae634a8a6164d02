"""Which coordinates of an activation hold an attribute: a binary mask, trained by swapping them.

    edited = x_hat(base + m * (source - base))        m = sigmoid(mask / T) in training, mask > 0 after it

on the latents of an SAE or in the coordinates of a rotation. As in SAEBench (Karvonen et al. 2025, arXiv 2503.09532)
the mask starts at 0, T falls from 1 to 1e-4 by a constant factor, the optimizer is Adam, and the reconstruction error
of an SAE is not added back.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_lightning.causal.swaps import Swaps
from sae_lightning.code import Code
from sae_lightning.kernels import sparse_decode
from sae_lightning.saes.base import SparseAutoencoder

_ENCODED_AT_ONCE = 256
_LOG10_TEMPERATURE = (0, -4)


class Coordinates:
    """Activations in coordinates of which some can be swapped.

    Args:
        code: [n, d] what the activations are in these coordinates.
        directions: [d, d_out] what one unit of each coordinate adds to an activation.
        unswapped: [n, d_out] what stands at the hook where nothing is swapped.
        scale: what sums of directions are divided by, `output_scale` of an SAE; where an SAE normalises each activation
            they are multiplied by the scale of the activation that is edited.
    """

    def __init__(
        self,
        code: Code,
        directions: Float[Tensor, "d d_out"],
        unswapped: Float[Tensor, "n d_out"],
        scale: Tensor | float = 1.0,
    ) -> None:
        self.code, self.directions, self.unswapped, self.scale = code, directions, unswapped, scale

    @classmethod
    def of_sae(cls, sae: SparseAutoencoder, x: Float[Tensor, "n d_in"]) -> "Coordinates":
        """Take latents as coordinates; where nothing is swapped the reconstruction stands at the hook."""
        codes, x_hats = [], []
        for part in x.to(sae.W_dec.device).split(_ENCODED_AT_ONCE):
            code = sae.encode(part)
            codes.append(code.where(code.values != 0))  # an SAE may name all of its latents
            x_hats.append(sae.decode(code))
        return cls(Code.join(codes), sae.W_dec.detach(), torch.cat(x_hats), sae.output_scale)

    @classmethod
    def of_rotation(cls, rotation: Float[Tensor, "d_in d_in"], x: Float[Tensor, "n d_in"]) -> "Coordinates":
        """Take coordinates along the orthonormal rows of a matrix, which lose nothing."""
        return cls(Code.from_dense(x @ rotation.T), rotation, x)

    def swapped(
        self, base: Int64[Tensor, "*batch"], source: Int64[Tensor, "*batch"], mask: Float[Tensor, " d"]
    ) -> Float[Tensor, "*batch d_out"]:
        """Return the activations `base` with the masked coordinates of `source`; differentiable in the mask.

        Args:
            base: rows of the activations.
            source: rows of the activations.
            mask: share of each coordinate that is swapped, from 0 to 1.
        """
        # Decoding is linear, so the change is decoded alone: what the mask leaves as it is cancels.
        change = self._masked(source.flatten(), mask) - self._masked(base.flatten(), mask)
        if self.code.row_norm is not None:
            change = change * self.code.row_norm.scale[base.flatten()]
        return self.unswapped[base] + change.view(*base.shape, -1) / self.scale

    def _masked(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Decode the masked coordinates of some rows, without bias and scale."""
        code = self.code.take(rows.to(mask.device))
        return sparse_decode(code.of_latents(mask) * code.values, code, self.directions)


def train_mask(
    coordinates: Coordinates,
    swaps: Swaps,
    loss: Callable[[Tensor, Tensor], Tensor],
    batches: Sequence[Tensor],
    learning_rate: float,
) -> Bool[Tensor, " d"]:
    """Train which coordinates are to be swapped so that the model gives the answers that are looked for.

    Args:
        coordinates: of all activations that the swaps name.
        swaps: pairs to train on.
        loss: mean over some pairs, given their numbers and their edited activations [*batch, d_in].
        batches: numbers of pairs, for each step.
        learning_rate: of Adam.
    """
    directions = coordinates.directions
    mask = torch.zeros(len(directions), device=directions.device, requires_grad=True)
    optimizer = torch.optim.Adam([mask], lr=learning_rate)
    temperatures = torch.logspace(*_LOG10_TEMPERATURE, len(batches)).tolist()
    for pairs, temperature in zip(batches, temperatures, strict=True):
        with torch.enable_grad():  # evaluators run without gradients
            soft = (mask / temperature).sigmoid()
            edited = coordinates.swapped(swaps.base[pairs], swaps.source[pairs], soft)
            (mask.grad,) = torch.autograd.grad(loss(pairs, edited), mask)
        optimizer.step()
    return mask.detach() > 0
