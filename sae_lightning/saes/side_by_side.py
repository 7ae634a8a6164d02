"""The members of a panel on a CPU: several at once, each on its share of the cores.

A step is a chain of products, which use all cores well, and of searches and sorts, which do not. Members are
independent, so while one searches another multiplies.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from sae_lightning.distributed import world_size

if TYPE_CHECKING:
    from sae_lightning.saes.base import SparseAutoencoder


def losses_of(
    saes: Sequence["SparseAutoencoder"], x: Float[Tensor, "batch d_in"], step: int
) -> list[dict[str, Tensor]]:
    """`losses` of each; side by side where that is quicker: several on one CPU, in one process.

    Args:
        saes: independent of each other.
        x: raw activations.
        step: optimizer steps done so far.
    """
    n_threads = torch.get_num_threads()
    if len(saes) == 1 or n_threads == 1 or x.device.type != "cpu" or world_size() > 1:  # ranks must reduce in one order
        return [sae.losses(x, step) for sae in saes]
    autocast, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def with_gradients(sae: "SparseAutoencoder") -> tuple[dict[str, Tensor], Sequence[Tensor], Sequence[Tensor | None]]:
        with torch.autocast("cpu", dtype=dtype, enabled=autocast):  # a setting of each thread
            losses = sae.losses(x, step)
        parameters = [parameter for parameter in sae.parameters() if parameter.requires_grad]
        gradients = torch.autograd.grad(losses["loss"], parameters, allow_unused=True)
        return {name: loss.detach() for name, loss in losses.items()}, parameters, gradients

    results = []
    n_workers = min(len(saes), 2 * n_threads)  # more than cores, so that none is idle at the end
    for losses, parameters, gradients in _workers(n_workers, n_threads).map(with_gradients, saes):
        losses["loss"] = _WithGradients.apply(losses["loss"], gradients, *parameters)
        results.append(losses)
    return results


@cache
def _workers(n: int, n_threads: int) -> ThreadPoolExecutor:
    """Threads that share the cores; to torch the number of threads for its work is a setting of each of them."""
    all_there = threading.Barrier(n + 1)

    def start() -> None:
        torch.get_num_threads()  # the first look takes the default; what is set before it would be lost
        torch.set_num_threads(max(1, n_threads // n))
        all_there.wait()

    pool = ThreadPoolExecutor(n, initializer=start)
    for _ in range(n):
        pool.submit(lambda: None)
    all_there.wait()
    torch.set_num_threads(n_threads)  # the last of them to set it has set the default of threads to come
    return pool


class _WithGradients(Function):
    """A number whose gradients are known."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor | None], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        if grad != 1:
            gradients = [None if gradient is None else gradient.mul_(grad) for gradient in gradients]
        return None, None, *gradients
