"""What can stand at a hook in place of the activation: the reconstruction of a member, zero, the mean."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.distributed import all_reduce_sum
from sae_lightning.saes.module import SAEModule
from sae_lightning.sources.replacing import Edit

ABLATIONS = ("zero", "mean")


def check_one_hook(evaluator: str, datamodule: Any, module: Any) -> None:  # noqa: ANN401
    """Refuses an SAE that reads the activations of several hooks as one."""
    widths = getattr(datamodule, "widths", None)
    if widths and not widths.keys() >= set(map(part_of, module.members)):
        raise ValueError(
            f"{evaluator} edits activations at one hook, and this SAE reads {', '.join(widths)} side by side: "
            f"take a SanityPanel, which has SAEs for each, or one hook, or leave out {evaluator}"
        )


def edits_by_part(datamodule: Any, module: SAEModule) -> dict[str, dict[str, Edit]]:  # noqa: ANN401
    """For each part of the activations the ablations, and the reconstruction of each member, by name.

    Members that read null activations are left out. A collective call: all ranks have the same mean.
    """
    mean = mean_activation(datamodule, module.device)
    nulls = getattr(datamodule, "null_parts", ())
    edits: dict[str, dict[str, Edit]] = {}
    for member, sae in module.members.items():
        if (part := part_of(member)) in nulls:
            continue
        if part not in edits:
            of_part = module.read_by(member, mean[None])
            edits[part] = {"zero": torch.zeros_like, "mean": partial(_everywhere, value=of_part)}
        edits[part][member] = lambda x, sae=sae: sae(x.to(sae.W_dec.device))  # type: ignore[misc]
    return edits


def mean_activation(datamodule: Any, device: torch.device) -> Float[Tensor, " d_in"]:  # noqa: ANN401
    """Mean of the activations at all held-out positions that count, over all ranks."""
    total = torch.zeros(datamodule.d_in + 1, dtype=torch.float64, device=device)
    for inputs in datamodule.validation_inputs():
        activations, counts = datamodule.source.capture(inputs)
        counted = activations[counts].double()
        total += torch.cat([counted.sum(0), counted.new_tensor([len(counted)])]).to(device)
    all_reduce_sum(total)
    return total[:-1] / total[-1]


def _everywhere(x: Tensor, value: Tensor) -> Tensor:
    return value.expand_as(x)
