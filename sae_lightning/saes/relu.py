"""ReLU SAE with an L1 penalty (Bricken et al. 2023; Cunningham et al. 2023, arXiv 2309.08600).

    latents = relu(pre_acts)        loss = mse + l1_coefficient * mean over samples of sum_i latents_i

Decoder directions have unit norm, so smaller latents with larger directions cannot evade the penalty; where
`unit_norm_decoder` is off each latent counts by the norm of its direction.
"""

from jaxtyping import Float
from torch import Tensor

from sae_lightning.code import Code
from sae_lightning.kernels import PreActs, entries_above
from sae_lightning.saes.l1_penalised import L1Penalised


class ReLU(L1Penalised):
    """ReLU latents, kept sparse by an L1 penalty on them."""

    def select(self, pre_acts: PreActs) -> Code:
        """Return the positive entries."""
        return entries_above(pre_acts, 0.0, full=self.training)

    def extra_losses(
        self, code: Code, values: Float[Tensor, " nnz"], target: Float[Tensor, "batch d_in"], step: int
    ) -> dict[str, Tensor]:
        """Return the mean L1 norm of the latents, and the penalty on it."""
        l1 = self.mesh.sum(self.weighted_by_norms(code.values, code).sum()) / code.batch_size
        return {"l1": l1, "penalty": self.l1_weight(code, step) * l1}
