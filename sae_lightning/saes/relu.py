"""ReLU SAE with an L1 penalty (Bricken et al. 2023; Cunningham et al. 2023, arXiv 2309.08600).

    latents = relu(pre_acts)        loss = mse + l1_coefficient * mean over samples of sum_i latents_i

Decoder directions have unit norm, so smaller latents with larger directions cannot evade the penalty; where
`unit_norm_decoder` is off each latent counts by the norm of its direction.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from sae_lightning.checks import check_at_least, check_whole
from sae_lightning.code import Code
from sae_lightning.kernels import PreActs, entries_above
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.held_l0 import L1Control
from sae_lightning.saes.schedule import warmed_up


class ReLU(SparseAutoencoder):
    """ReLU latents, kept sparse by an L1 penalty.

    Args:
        d_in: width of an activation; linked to the data.
        l1_coefficient: weight of the L1 norm of the latents against the squared error summed over dimensions, 0 or
            more.
        target_l0: l0 to hold, above 0: the weight then begins at l1_coefficient and follows l0 (`held_l0.py`). Default:
            none, a constant weight.
        sparsity_warmup_steps: optimizer steps over which the penalty rises linearly from zero.
        kwargs: those of SparseAutoencoder.
    """

    def __init__(
        self,
        d_in: int,
        l1_coefficient: float = 0.01,
        sparsity_warmup_steps: int = 0,
        target_l0: float | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        check_at_least(0, l1_coefficient=l1_coefficient)
        check_whole(0, sparsity_warmup_steps=sparsity_warmup_steps)
        super().__init__(d_in, **kwargs)
        self.l1_coefficient, self.sparsity_warmup_steps = l1_coefficient, sparsity_warmup_steps
        self.target_l0 = target_l0
        self.l1_control = None if target_l0 is None else L1Control(target_l0)

    def select(self, pre_acts: PreActs) -> Code:
        """Return the positive entries."""
        return entries_above(pre_acts, 0.0, full=self.training)

    def extra_losses(
        self, code: Code, values: Float[Tensor, " nnz"], target: Float[Tensor, "batch d_in"], step: int
    ) -> dict[str, Tensor]:
        """Return the mean L1 norm of the latents, and the penalty on it."""
        l1 = self.weighted_by_norms(code.values, code).sum() / code.batch_size
        return {"l1": l1, "penalty": self.l1_coefficient * self._factor(code, step) * l1}

    def _factor(self, code: Code, step: int) -> float | Tensor:
        rising = warmed_up(step, self.sparsity_warmup_steps)
        return rising if self.l1_control is None else rising * self.l1_control(code)

    @property
    def held_l0(self) -> float | None:
        """The l0 that is settled after the last step of a fit; None where none is held."""
        return self.target_l0

    def raise_thresholds_(self, amount: float) -> None:
        """Let a latent be active only where its pre-activation is higher by this amount."""
        self.b_enc.sub_(amount)
