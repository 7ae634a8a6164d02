"""SAEs with numbers that are not finite: why they are not, and that none is kept, in a checkpoint or exported."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae_lightning.saes.inputs import non_finite


def non_finite_weight(sae: nn.Module) -> str:
    """Describe the first parameter with numbers that are nan or infinite; empty if there is none."""
    problems = ((name, non_finite(weight)) for name, weight in sae.named_parameters())
    return next((f"{name} {problem}" for name, problem in problems if problem), "")


def why_not_finite(sae: nn.Module, x: Float[Tensor, "batch d_in"], loss: Float[Tensor, ""]) -> str:
    """Describe why a loss is not finite: because of the activations, the weights, or the size of either."""
    if problem := non_finite(x):
        return f"the batch {problem}: take these activations out, or find out where they come from"
    weight = non_finite_weight(sae)
    since = f", since {weight}" if weight else ""
    return f"the loss became {loss.item()}{since}: lower the learning rate, or set trainer.gradient_clip_val"


def refuse_non_finite(sae: nn.Module, what: str, when: str = "") -> None:
    """Refuse an SAE of which a parameter is nan or infinite.

    Args:
        sae: read, not changed.
        what: the SAE, for the message.
        when: at which step that is, and what is known of when it began, for the message.

    Raises:
        ValueError: names the parameters.
    """
    counts = {name: int((~torch.isfinite(parameter)).sum()) for name, parameter in sae.named_parameters()}
    if bad := {name: n for name, n in counts.items() if n}:
        raise ValueError(
            f"{what} has values that are not finite{when}: {', '.join(f'{n} in {name}' for name, n in bad.items())}. "
            "It is not saved. Look for nan or infinite activations in the data, lower the learning rate, or set "
            "trainer.gradient_clip_val; an earlier checkpoint of the run is as it was"
        )
