"""An SAE whose decoder is permuted against its encoder: does it matter which direction belongs to which latent?"""

import copy
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sae_lightning.controls.base import Control
from sae_lightning.controls.cost import Cost, of_encoding
from sae_lightning.saes import SparseAutoencoder


class PermutedDecoder(Control):
    """The SAE itself, each latent with the decoder direction of another; it keeps the norm of its own row.

    Latents are the same to the bit. Rows of zeros, which have no direction, stay where they are.
    """

    controls_for = "which direction belongs to which latent"
    is_random: ClassVar[bool] = True
    of_transcoders = True

    def new(self, sae: SparseAutoencoder) -> SparseAutoencoder:
        """Return an SAE of the same class and settings."""
        return new_like(sae)

    def most_l0(self, sae: SparseAutoencoder) -> int:
        """Return the number of latents."""
        return sae.d_sae

    def check(self, sae: SparseAutoencoder, l0: float) -> None:
        """Check that there are two directions that can change places.

        Raises:
            ValueError: if there are not.
        """
        super().check(sae, l0)
        if int(sae.W_dec.any(1).sum()) < 2:
            raise ValueError("fewer than two decoder rows are not zero: there is nothing to permute")

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
        own.W_dec.data = permuted_directions(own.W_dec.detach(), generator)

    def cost(self, sae: SparseAutoencoder, n_samples: int, n_held_out: int, l0: float) -> Cost:
        """Return the cost of encoding what it is measured on."""
        return of_encoding(n_held_out, sae.d_in, sae.d_sae, l0)


def new_like(sae: SparseAutoencoder) -> SparseAutoencoder:
    """Return an SAE of the same class and settings, with empty tensors on the CPU."""
    memo: dict[int, object] = {}
    for tensor in (*sae.parameters(), *sae.buffers()):
        empty = torch.empty_like(tensor, device="cpu", requires_grad=False)
        memo[id(tensor)] = nn.Parameter(empty) if isinstance(tensor, nn.Parameter) else empty
    own = copy.deepcopy(sae, memo)  # which copies no tensor
    own.is_initialised = False
    return own.requires_grad_(False).eval()


def take_tensors(own: SparseAutoencoder, sae: SparseAutoencoder) -> None:
    """Give an SAE the tensors of another of its class, not copied where they are on one device."""
    device = own.W_dec.device
    own.load_state_dict({name: tensor.to(device) for name, tensor in sae.state_dict().items()}, assign=True)


def permuted_directions(
    W_dec: Float[Tensor, "d_sae d_in"],  # noqa: N803 - the name it has everywhere
    generator: torch.Generator,
) -> Float[Tensor, "d_sae d_in"]:
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
