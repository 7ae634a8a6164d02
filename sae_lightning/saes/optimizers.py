"""The user's optimizer in its fastest form, and clipping that spares what it can."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sae_lightning.checks import check_between

_LARGEST_LEARNING_RATE = 1e3


def speed_up(optimizer: Optimizer) -> Optimizer:
    """Choose torch's fused update where it exists and the user chose none; the steps are the same.

    Fused updates read memory in order and copy tensors that are laid out otherwise, which takes as long as the update.
    The encoder is stored by latent and `W_enc` is a transposed view of it, so Adam gets the contiguous transpose.

    Args:
        optimizer: changed in place, before its first step.

    Returns:
        The same optimizer.
    """
    for group in optimizer.param_groups:
        floating = all(parameter.is_floating_point() for parameter in group["params"])
        if floating and group.get("fused", False) is None and group.get("foreach") is None:
            group["fused"] = True
    if isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW) and hasattr(optimizer, "_init_group"):
        collect = optimizer._init_group

        def collect_in_order(group: dict[str, Any], *lists: list[Tensor]) -> Any:  # noqa: ANN401
            result = collect(group, *lists)
            for tensors in lists:
                tensors[:] = [tensor.T if _is_transposed(tensor) else tensor for tensor in tensors]
            return result

        optimizer._init_group = collect_in_order  # type: ignore[method-assign]
    return optimizer


def check_learning_rates(optimizer: Optimizer) -> None:
    """Refuse a learning rate with which weights cannot stay finite; torch refuses negative ones and NaN.

    Raises:
        ValueError: names the learning rate.
    """
    for group in optimizer.param_groups:
        check_between(0, _LARGEST_LEARNING_RATE, lr=float(group["lr"]), hint="for Adam as a rule 1e-5 to 1e-2")


def clip_by_norm(sae: nn.Module, max_norm: float) -> None:
    """Clip as `torch.nn.utils.clip_grad_norm_`, but spare gradients below the norm a pass that multiplies them by 1."""
    parameters = [parameter for parameter in sae.parameters() if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    if norm.device.type != "cpu" or not norm + 1e-6 <= max_norm:  # elsewhere looking would mean waiting
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)


def _is_transposed(tensor: Tensor) -> bool:
    return tensor.dim() == 2 and not tensor.is_contiguous() and tensor.T.is_contiguous()
