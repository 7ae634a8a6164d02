"""Gated SAE (Rajamanoharan et al. 2024, arXiv 2404.16014).

    gate      = pre_acts = (x - b_dec) W_enc + b_enc
    magnitude = relu(exp(r_mag) * (x - b_dec) W_enc + b_mag)        latents = magnitude where gate > 0, else 0

    loss = mse + l1_coefficient * mean over samples of sum_i relu(gate_i) + mse of relu(gate) decoded

The gate learns which latents are active from its L1 norm and from the error of decoding it alone, with the decoder held
fixed (eq 8 of the paper); the magnitude learns how active they are from the reconstruction, which no penalty shrinks.
`b_enc` is the paper's gate bias.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae_lightning.code import Code
from sae_lightning.kernels import PreActs, entries_above, sparse_decode
from sae_lightning.saes.l1_penalised import L1Penalised
from sae_lightning.saes.losses import squared_error


class Gated(L1Penalised):
    """A gate that decides which latents are active, and a magnitude that shares its encoder up to scale and bias.

    The penalty is on the L1 norm of the gate.
    """

    in_scaled_units = (*L1Penalised.in_scaled_units, "b_mag")
    by_latent = {**L1Penalised.by_latent, "r_mag": 0, "b_mag": 0}

    def __init__(self, d_in: int, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(d_in, **kwargs)
        self.r_mag = nn.Parameter(torch.zeros(self.d_sae))
        self.b_mag = nn.Parameter(torch.zeros(self.d_sae))

    def start_own_biases(self) -> None:
        """Start the bias of the magnitude at that of the gate."""
        self.b_mag.copy_(self.b_enc)

    def select(self, pre_acts: PreActs) -> Code:
        """Return the entries whose gate is open."""
        return entries_above(pre_acts, 0.0, full=self.training)

    def activate(self, values: Float[Tensor, " nnz"], chosen: Code) -> Float[Tensor, " nnz"]:
        """Return the magnitude where the gate is open, and zero elsewhere."""
        without_bias = values - chosen.of_latents(self.b_enc)
        magnitude = chosen.of_latents(self.r_mag.exp()) * without_bias + chosen.of_latents(self.b_mag)
        return magnitude.relu() * (values > 0)

    def extra_losses(
        self, code: Code, values: Float[Tensor, " nnz"], target: Float[Tensor, "batch d_in"], step: int
    ) -> dict[str, Tensor]:
        """Return the L1 norm of the gate, the error of decoding it, and the penalty with both."""
        gate = values.relu()
        l1 = self.mesh.sum(self.weighted_by_norms(gate, code).sum()) / code.batch_size
        decoded = sparse_decode(gate, code, self.W_dec.detach(), self.b_dec.detach(), self.mesh)
        by_gate = squared_error(decoded, target)
        penalty = self.l1_weight(code, step) * l1 + by_gate
        return {"l1": l1, "mse_by_gate": by_gate, "penalty": penalty}
