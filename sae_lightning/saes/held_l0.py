"""An l0 that is held: an L1 penalty whose weight follows it, and thresholds that are settled after the last step.

A ReLU or Gated SAE has no l0 of its own, as a TopK has. Two things give it one:

    excess = log(l0 / target), within [-1, 1]
    weight = l1_coefficient * exp(sum of RATE * excess so far + GAIN * excess)

A proportional and integral controller of the logarithm of the weight: the sum finds the weight that the target needs,
and the second term damps the swings about it, since l0 lags behind the weight by hundreds of steps. The bound keeps the
sum from running away at the start, when half of all latents are active.

As the learning rate falls to zero the penalty moves nothing any more, and in a short run it is not done. So after the
last step all thresholds are moved by one amount, which brings the l0 of a sample of the training data to the target
(`settle`); of one batch of 256 activations l0 is known within 8 % or so. SAEs that are compared at equal l0 are at
equal l0 then, however long the run was.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae_lightning.checks import check_above
from sae_lightning.code import Code
from sae_lightning.distributed import all_reduce_sum, world_size
from sae_lightning.latent_mesh import ALONE, LatentMesh

RATE, GAIN = 0.02, 3.0
SETTLING_SAMPLES = 16_384
_BLOCK = 2048
_CLOSE = 1e-3
"""Share of the target within which l0 is settled."""
_MOST_TRIED = 60


@runtime_checkable
class Settled(Protocol):
    """An SAE whose thresholds can all be moved by one amount."""

    def encode(self, x: Tensor) -> Code:
        """Return the latents of raw activations."""
        ...

    def raise_thresholds_(self, amount: float) -> None:
        """Let a latent be active only where its pre-activation is higher by this amount, or lower if negative."""
        ...


class L1Control(nn.Module):
    """Factor of an L1 penalty that holds l0 at a target; checkpoints keep its state.

    Args:
        target: mean number of active latents to hold, above 0.
    """

    log_factor: Tensor

    def __init__(self, target: float) -> None:
        super().__init__()
        check_above(0, target_l0=target)
        self.target = target
        self.register_buffer("log_factor", torch.zeros(()))

    @torch.no_grad()
    def forward(self, code: Code, mesh: LatentMesh = ALONE) -> Float[Tensor, ""]:
        """Return the factor for this batch, and move the state by its l0 over all ranks.

        Args:
            code: latents of this rank.
            mesh: of the ranks that have the other latents.
        """
        own = code.firing_counts().sum().float() / code.batch_size
        l0 = mesh.sum(all_reduce_sum(own)) / world_size()
        excess = (l0 / self.target).log().clamp(-1.0, 1.0)
        factor = (self.log_factor + GAIN * excess).exp()
        self.log_factor.add_(RATE * excess)
        return factor


@torch.no_grad()
def settle(sae: Settled, x: Float[Tensor, "batch d_in"], target: float) -> None:
    """Move all thresholds of an SAE by one amount, so that so many latents are active on average.

    Args:
        sae: in evaluation mode.
        x: raw activations, the same on every rank.
        target: mean number of active latents.
    """
    moved, low, high, step = 0.0, None, None, 1e-3
    for _ in range(_MOST_TRIED):
        excess = _l0(sae, x) / target - 1
        if abs(excess) < _CLOSE:
            return
        if excess > 0:
            low = moved
        else:
            high = moved
        if low is None or high is None:
            amount, step = (step if excess > 0 else -step), 2 * step
        else:
            amount = (low + high) / 2 - moved
        sae.raise_thresholds_(amount)
        moved += amount


def _l0(sae: Settled, x: Tensor) -> float:
    return sum(sae.encode(block).nnz for block in x.split(_BLOCK)) / len(x)
