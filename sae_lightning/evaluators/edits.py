"""Edits at a hook: the reconstruction of a member, zero, or the mean in place of the activation.

A transcoder is asked for what it answers to the activations at its source, and the answer stands at its target.
"""

from functools import partial

import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule
from torch import Tensor

from sae_lightning.datamodules.base import ActivationDataModule
from sae_lightning.distributed import all_reduce_sum
from sae_lightning.members import Member
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.module import SAEModule
from sae_lightning.sources.replacing import Edit

ABLATIONS = ("zero", "mean")


def check_one_hook(evaluator: str, datamodule: ActivationDataModule, module: LightningModule) -> None:
    """Refuse an SAE that reads the activations of several hooks as one.

    Args:
        evaluator: name of the evaluator, for the message.
        datamodule: of the run.
        module: whose members are evaluated.

    Raises:
        ValueError: if a member reads several parts side by side.
    """
    assert isinstance(module, SAEModule)
    widths = datamodule.widths
    if widths and not widths.keys() >= {member.part for member in module.all_members}:
        raise ValueError(
            f"{evaluator} edits activations at one hook, and this SAE reads {', '.join(widths)} side by side: "
            f"take a SanityPanel, which has SAEs for each, or one hook, or leave out {evaluator}"
        )


def edits_by_part(datamodule: ActivationDataModule, module: SAEModule) -> dict[str, dict[str | Member, Edit]]:
    """Return for each part of the activations the ablations by name, and the reconstruction of each member.

    Members that read null activations are left out. A collective call: all ranks have the same mean. Edits for
    transcoders take what is read and return what stands at the target.
    """
    mean = mean_activation(datamodule, module.device)
    edits: dict[str, dict[str | Member, Edit]] = {}
    for member, sae in module.members.items():
        if member.part in datamodule.null_parts:
            continue
        if member.part not in edits:
            target = module.target_for(member, mean[None])
            mean_of_part = module.activations_for(member, mean[None]) if target is None else target
            ablations = {"zero": torch.zeros_like(mean_of_part), "mean": mean_of_part}
            edits[member.part] = {name: partial(_everywhere, value=value) for name, value in ablations.items()}
        edits[member.part][member] = partial(reconstruction, sae=sae)
    return edits


def mean_activation(datamodule: ActivationDataModule, device: torch.device) -> Float[Tensor, " d_in"]:
    """Return the mean of the activations at all valid held-out positions, over all ranks."""
    total = torch.zeros(datamodule.d_in + 1, dtype=torch.float64, device=device)
    for inputs in datamodule.validation_inputs():
        activations, mask = datamodule.source.capture(inputs)
        valid = activations[mask].double()
        total += torch.cat([valid.sum(0), valid.new_tensor([len(valid)])]).to(device)
    all_reduce_sum(total)
    return total[:-1] / total[-1]


def reconstruction(x: Tensor, sae: SparseAutoencoder) -> Tensor:
    """Return what an SAE makes of activations, where it is."""
    x_hat: Tensor = sae(x.to(sae.W_dec.device))
    return x_hat


def _everywhere(x: Tensor, value: Tensor) -> Tensor:
    return value.expand(len(x), -1)
