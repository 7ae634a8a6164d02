"""What variants with an L1 penalty share: its weight, which rises at the start and may follow l0."""

from typing import Any

from torch import Tensor

from sae_lightning.checks import check_at_least, check_whole
from sae_lightning.code import Code
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.held_l0 import L1Control
from sae_lightning.saes.schedule import warmed_up


class L1Penalised(SparseAutoencoder):
    """An SAE kept sparse by an L1 penalty, whose latents are active where their pre-activation is above zero.

    Args:
        d_in: width of an activation; linked to the data.
        l1_coefficient: weight of the L1 norm against the squared error summed over dimensions, 0 or more.
        target_l0: l0 to hold, above 0: the weight then begins at l1_coefficient and follows l0 (`held_l0.py`). Default:
            none, a constant weight.
        sparsity_warmup_steps: optimizer steps over which the weight rises linearly from zero.
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

    def l1_weight(self, code: Code, step: int) -> float | Tensor:
        """Return the weight of the penalty at this step, for a batch of this l0."""
        weight = self.l1_coefficient * warmed_up(step, self.sparsity_warmup_steps)
        return weight if self.l1_control is None else weight * self.l1_control(code, self.mesh)

    @property
    def held_l0(self) -> float | None:
        """The l0 that is settled after the last step of a fit; None where none is held."""
        return self.target_l0

    def raise_thresholds_(self, amount: float) -> None:
        """Let a latent be active only where its pre-activation is higher by this amount."""
        self.b_enc.sub_(amount)
