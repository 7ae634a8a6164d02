"""A training loop of one's own: `losses` with the checks that a fit makes elsewhere, and `step` in place of Lightning.

What a fit does after each optimizer step, a loop of one's own can forget: decoder directions then drift off unit norm
and penalties are evaded. A `StepGuard` notices that the parameters have moved and nothing has constrained them.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim import Optimizer

from sae_lightning.saes.decoder_norm import refuse_other_norms
from sae_lightning.saes.finite import why_not_finite
from sae_lightning.saes.inputs import activations_in, check_device
from sae_lightning.saes.transcoder import refuse_wrong_target

if TYPE_CHECKING:
    from sae_lightning.saes.base import SparseAutoencoder


class StepGuard:
    """Whether an SAE was constrained since its last losses, and the biases that it had there."""

    def __init__(self) -> None:
        self.is_constrained = False
        self._biases: tuple[Tensor, ...] = ()

    def forget(self) -> None:
        """Take the parameters as they are for those of a new start, which no optimizer has changed."""
        self._biases = ()

    def check(self, sae: "SparseAutoencoder") -> None:
        """Refuse parameters that were changed since the last `losses` and not constrained, and norms other than 1.

        Nothing is looked at where `constrain` has been called since. Biases are what every step changes, whatever is
        frozen.
        """
        biases = (sae.b_enc.detach(), sae.b_dec.detach())
        if not self.is_constrained:
            if any(not torch.equal(one, now.to(one)) for one, now in zip(self._biases, biases, strict=False)):
                raise ValueError(
                    "the parameters of this SAE have changed since the last losses, and nothing has constrained them: "
                    "in a training loop of your own call sae.step(optimizer) in place of optimizer.step()"
                )
            if sae.unit_norm_decoder and sae.W_dec.requires_grad:
                refuse_other_norms(sae.W_dec)
        self.is_constrained, self._biases = False, tuple(bias.clone() for bias in biases)


def losses(sae: "SparseAutoencoder", x: Tensor, step: int, target: Tensor | None) -> dict[str, Tensor]:
    """Check what is given, and return the loss terms, see `SparseAutoencoder.losses`."""
    sae.check_started()
    if not sae.training:
        raise ValueError(
            "this SAE is in evaluation mode, as every SAE that was read from a file, and would select latents as "
            "there: call sae.train()"
        )
    if (target is None) == sae.is_transcoder:
        refuse_wrong_target(sae, target, "losses(x, step, target)")
    x = activations_in(x, sae.d_in)
    if target is not None:
        target = activations_in(target, sae.d_out)
        if len(target) != len(x):
            raise ValueError(f"{len(x)} activations and {len(target)} targets: expected as many of both")
    check_device(x, sae.W_dec)
    sae.step_guard.check(sae)
    terms = sae.loss_terms_for(target, x, step)
    if x.device.type == "cpu" and not torch.isfinite(terms["loss"]):
        raise ValueError(why_not_finite(sae, x, terms["loss"]))
    return terms


def step(sae: "SparseAutoencoder", optimizer: Optimizer) -> None:
    """Take an optimizer step, and bring the SAE back to what constrains it, see `SparseAutoencoder.step`."""
    if all(parameter.grad is None for parameter in sae.parameters()):
        raise ValueError('this SAE has no gradient: call sae.losses(x, step)["loss"].backward() before sae.step')
    sae.project_decoder_gradient()
    optimizer.step()
    optimizer.zero_grad()
    sae.constrain()
    if sae.after_constraint is not None:
        sae.after_constraint(sae)
