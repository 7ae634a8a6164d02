"""What a validation step hands to the evaluators."""

from dataclasses import dataclass

from torch import Tensor

from sae_lightning.code import Code


@dataclass(frozen=True)
class Step:
    """What a validation step hands to the evaluators for one member.

    Args:
        x: [batch, d_in] raw activations that were read.
        code: their latents.
        x_hat: [batch, d_out] reconstruction in the units of the target.
        target: [batch, d_out] raw activations that are reconstructed: those that were read, unless the member is a
            transcoder; of a crosscoder scaled, since otherwise the part with the largest norms would stand for all.
    """

    x: Tensor
    code: Code
    x_hat: Tensor
    target: Tensor
