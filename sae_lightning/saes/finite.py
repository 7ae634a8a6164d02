"""No SAE with numbers that are not finite is kept: neither in a checkpoint nor exported."""

import torch
from torch import nn


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
