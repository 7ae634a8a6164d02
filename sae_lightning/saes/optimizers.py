"""The user's optimizer in its fastest form, and clipping that spares what it can."""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from sae_lightning.checks import check_between

if TYPE_CHECKING:
    from sae_lightning.saes.base import SparseAutoencoder

_LARGEST_LEARNING_RATE = 1e3
_ELEMENTWISE = (
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.Adamax,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
    torch.optim.SGD,
)


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


def refuse_unless_elementwise(optimizer: Optimizer) -> None:
    """Refuse an optimizer that may look at a whole matrix, where a rank has the rows of its latents alone.

    Raises:
        ValueError: unless it is one of torch that moves each entry by itself.
    """
    names = [f"torch.optim.{kind.__name__}" for kind in _ELEMENTWISE]
    if type(optimizer) not in _ELEMENTWISE:
        raise ValueError(
            f"optimizer={type(optimizer).__name__} with latents on several ranks: it may use more than each entry of a "
            f"matrix by itself, and would train another SAE than on one; take one of {', '.join(names)}"
        )


def clip_by_norm(sae: "SparseAutoencoder", max_norm: float) -> None:
    """Clip as `torch.nn.utils.clip_grad_norm_`, but spare gradients below the norm a pass that multiplies them by 1."""
    parameters = [parameter for parameter in sae.parameters() if parameter.grad is not None]
    norm = gradient_norm(sae)
    if norm.device.type != "cpu" or not norm + 1e-6 <= max_norm:  # elsewhere looking would mean waiting
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)


def gradient_norm(sae: "SparseAutoencoder") -> Float[Tensor, ""]:
    """Return the norm of all gradients of an SAE, with those of its latents on other ranks."""
    grads = {name: parameter.grad for name, parameter in sae.named_parameters() if parameter.grad is not None}
    if sae.mesh.size == 1:
        return torch.nn.utils.get_total_norm(list(grads.values()))
    own, shared = (
        torch.nn.utils.get_total_norm([grad for name, grad in grads.items() if (name in sae.by_latent) == is_own])
        for is_own in (True, False)
    )
    return (sae.mesh.sum(own.square()) + shared.square()).sqrt()


def _is_transposed(tensor: Tensor) -> bool:
    return tensor.dim() == 2 and not tensor.is_contiguous() and tensor.T.is_contiguous()
