"""JumpReLU SAE (Rajamanoharan et al. 2024, arXiv 2407.14435).

    latents = pre_acts where pre_acts > threshold, else 0        loss = mse + sparsity penalty on l0

The derivatives of both jumps with respect to the threshold are zero almost everywhere, so thresholds learn through
straight-through estimators: densities of pre-activations at the threshold, estimated with a rectangle kernel K (1
within 1/2 of zero, else 0) of width `bandwidth`:

    d latent / d threshold = -threshold / bandwidth * K((pre_act - threshold) / bandwidth)
    d l0     / d threshold = -1         / bandwidth * K((pre_act - threshold) / bandwidth)

Departures from public code: the threshold itself is learned, not its logarithm (with Adam the logarithm hardly moves),
and entries just below the threshold contribute to the estimate as much as those just above. The threshold stays in
float32 whatever the precision of the products.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function

from sae_lightning.checks import check_above, check_at_least, check_whole
from sae_lightning.code import Code
from sae_lightning.distributed import all_reduce_sum, world_size
from sae_lightning.kernels import PreActs, entries_above
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.schedule import warmed_up


class L0Penalty(ABC):
    """How l0 enters the loss."""

    @abstractmethod
    def __call__(self, l0: Float[Tensor, ""], global_l0: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Return the penalty.

        Args:
            l0: of this rank, differentiable.
            global_l0: mean over all ranks, a constant.
        """


class LinearL0(L0Penalty):
    """`coefficient * l0`, as in Rajamanoharan et al. 2024.

    Args:
        coefficient: weight of the mean number of active latents against the squared error summed over dimensions, 0 or
            more.
    """

    def __init__(self, coefficient: float = 1e-3) -> None:
        check_at_least(0, coefficient=coefficient)
        self.coefficient = coefficient

    def __call__(self, l0: Float[Tensor, ""], global_l0: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Return the penalty, linear in this rank's l0."""
        return self.coefficient * l0


class TargetL0(L0Penalty):
    """`coefficient * (l0 / target - 1)^2`, which holds l0 at a target.

    Args:
        target: mean number of active latents to hold, above 0.
        coefficient: weight against the squared error summed over dimensions, 0 or more.
        settle: after the last step move all thresholds by one amount, which brings l0 to the target (`held_l0.py`).
    """

    def __init__(self, target: float, coefficient: float = 1.0, settle: bool = False) -> None:
        check_above(0, target=target)
        check_at_least(0, coefficient=coefficient)
        self.target, self.coefficient, self.settle = target, coefficient, settle

    def __call__(self, l0: Float[Tensor, ""], global_l0: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Return the penalty on the l0 of all ranks, with its gradient to that of this rank."""
        excess = global_l0 / self.target - 1
        value = excess.square()
        # The square of a mean is not the mean of squares: each rank takes the slope 2 excess / target at the l0 of all
        # ranks, and averaging gradients over ranks then gives that of the global penalty. (l0 - l0.detach()) is zero.
        return self.coefficient * (value + 2 * excess / self.target * (l0 - l0.detach()))


class JumpReLU(SparseAutoencoder):
    """Pre-activations above a threshold that is learned for each latent.

    Args:
        d_in: width of an activation; linked to the data.
        penalty: how l0 enters the loss; LinearL0 by default.
        initial_threshold: start of every threshold, above 0, in the units of the scaled input.
        bandwidth: width of the kernel of the straight-through estimators, above 0, in the units of the scaled input
            (0.001 suits E||x||^2 = 1).
        sparsity_warmup_steps: optimizer steps over which the penalty rises linearly from zero.
        scale_input: train on activations scaled to E||x||^2 = 1; thresholds and bandwidth are then in these units.
        kwargs: those of SparseAutoencoder.
    """

    in_scaled_units = (*SparseAutoencoder.in_scaled_units, "threshold")
    by_latent = {**SparseAutoencoder.by_latent, "threshold": 0}

    def __init__(
        self,
        d_in: int,
        penalty: L0Penalty | None = None,
        initial_threshold: float = 0.001,
        bandwidth: float = 0.001,
        sparsity_warmup_steps: int = 0,
        scale_input: bool = True,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(d_in, scale_input=scale_input, **kwargs)
        check_above(0, initial_threshold=initial_threshold, bandwidth=bandwidth)
        check_whole(0, sparsity_warmup_steps=sparsity_warmup_steps)
        self.penalty = penalty or LinearL0()
        self.bandwidth, self.sparsity_warmup_steps = bandwidth, sparsity_warmup_steps
        self.initial_threshold = initial_threshold
        self.threshold = nn.Parameter(torch.full((self.d_sae,), initial_threshold))

    def select(self, pre_acts: PreActs) -> Code:
        """Return the entries above the threshold; in training mode also those below it that are in the kernel."""
        reach = self.bandwidth / 2 if self.training else 0.0
        limits = self.threshold - reach
        code = entries_above(pre_acts.minus(limits), 0.0, full=self.training)
        return code.with_values(code.values + code.of_latents(limits))

    def activate(self, values: Float[Tensor, " nnz"], chosen: Code) -> Float[Tensor, " nnz"]:
        """Return values above the threshold and zeros elsewhere, with a straight-through gradient to the threshold."""
        return _Jump.apply(values, chosen.of_latents(self.threshold), self.bandwidth)

    def extra_losses(
        self, code: Code, values: Float[Tensor, " nnz"], target: Float[Tensor, "batch d_in"], step: int
    ) -> dict[str, Tensor]:
        """Return the penalty on l0, whose gradient reaches thresholds alone: the step is flat in the values."""
        own_l0 = _Step.apply(values.detach(), code.of_latents(self.threshold), self.bandwidth).sum() / code.batch_size
        l0 = self.mesh.sum(own_l0)
        global_l0 = all_reduce_sum(l0.detach().clone()) / world_size()
        return {"penalty": warmed_up(step, self.sparsity_warmup_steps) * self.penalty(l0, global_l0)}

    @property
    def held_l0(self) -> float | None:
        """The l0 that is settled after the last step of a fit; None where none is."""
        return self.penalty.target if isinstance(self.penalty, TargetL0) and self.penalty.settle else None

    def raise_thresholds_(self, amount: float) -> None:
        """Let a latent be active only where its pre-activation is higher by this amount; no threshold is below 0."""
        self.threshold.add_(amount).clamp_min_(0.0)

    @torch.no_grad()
    def constrain(self) -> None:
        """Keep decoder directions at unit norm, and thresholds at 0 or above, below which latents could be negative."""
        super().constrain()
        self.threshold.clamp_min_(0.0)


def _in_window(values: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """Return the rectangle kernel K((values - threshold) / bandwidth), as bool."""
    return (values - threshold).abs() < bandwidth / 2


class _Jump(Function):
    """`values * (values > threshold)`; its backward has the straight-through estimate for the threshold."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(values, threshold)
        ctx.bandwidth = bandwidth
        return values * (values > threshold)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        values, threshold = ctx.saved_tensors
        window = _in_window(values, threshold, ctx.bandwidth)
        return grad * (values > threshold), -grad * window * threshold / ctx.bandwidth, None


class _Step(Function):
    """1 where values > threshold, else 0; only the threshold gets a gradient, the straight-through estimate."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(values, threshold)
        ctx.bandwidth = bandwidth
        return (values > threshold).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        values, threshold = ctx.saved_tensors
        return None, -grad * _in_window(values, threshold, ctx.bandwidth) / ctx.bandwidth, None
