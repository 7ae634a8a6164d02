"""`ChangedDecoder`: an SAE with its own latents, and a decoder that is its own no more."""

import copy
from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae_lightning.controls.base import Control
from sae_lightning.controls.cost import Cost, of_encoding
from sae_lightning.saes import SparseAutoencoder


class ChangedDecoder(Control):
    """The SAE itself with other decoder directions: latents, `b_dec` and skip path are its own, to the bit."""

    is_random: ClassVar[bool] = True
    of_transcoders = True

    def new(self, sae: SparseAutoencoder) -> SparseAutoencoder:
        """Return an SAE of the same class and settings, with empty tensors on the CPU."""
        memo: dict[int, object] = {}
        for tensor in (*sae.parameters(), *sae.buffers()):
            empty = torch.empty_like(tensor, device="cpu", requires_grad=False)
            memo[id(tensor)] = nn.Parameter(empty) if isinstance(tensor, nn.Parameter) else empty
        own = copy.deepcopy(sae, memo)  # which copies no tensor
        own.is_initialised = False
        return own.requires_grad_(False).eval()

    @abstractmethod
    def changed(
        self,
        W_dec: Float[Tensor, "d_sae d_out"],  # noqa: N803 - the name it has everywhere
        generator: torch.Generator,
    ) -> Float[Tensor, "d_sae d_out"]:
        """Return what stands in the place of the decoder.

        Args:
            W_dec: of the SAE, not to be changed.
            generator: the only source of randomness, on the CPU.
        """

    def _fill(
        self,
        own: SparseAutoencoder,
        sae: SparseAutoencoder,
        x: Tensor,
        y: Tensor,
        l0: float,
        generator: torch.Generator,
    ) -> None:
        device = own.W_dec.device
        # Not copied where they are on one device.
        own.load_state_dict({name: tensor.to(device) for name, tensor in sae.state_dict().items()}, assign=True)
        own.W_dec.data = self.changed(own.W_dec.detach(), generator)

    def cost(self, sae: SparseAutoencoder, n_samples: int, n_held_out: int, l0: float) -> Cost:
        """Return the cost of encoding what it is measured on."""
        return of_encoding(n_held_out, sae.d_in, sae.d_sae, l0)
