"""Collective operations that the core needs; with one process they return their argument."""

from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def world_size() -> int:
    """Return the number of processes that train together, 1 without `torch.distributed`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Replace each entry of the tensor by its sum over all ranks, in place, and return the tensor."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def all_reduce_min(tensor: Tensor) -> Tensor:
    """Replace each entry of the tensor by its minimum over all ranks, in place, and return the tensor."""
    if world_size() > 1:
        dist.all_reduce(tensor, dist.ReduceOp.MIN)
    return tensor


def all_gather_int(value: int, lower_ranks_only: bool = False) -> list[int]:
    """Return the value of every rank, in order of ranks; with `lower_ranks_only` those of the ranks before this one."""
    if world_size() == 1:
        return [] if lower_ranks_only else [value]
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    gathered = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(world_size())]
    dist.all_gather(gathered, torch.tensor([value], device=device))
    values = [int(part) for part in gathered]
    return values[: dist.get_rank()] if lower_ranks_only else values


def all_gather_object(value: T) -> list[T]:
    """Return the value of every rank, in order of ranks.

    Args:
        value: plain Python or CPU tensors, since it is pickled on the way.
    """
    if world_size() == 1:
        return [value]
    gathered: list[T] = [value] * world_size()
    group = None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")  # not through a GPU's memory
    dist.all_gather_object(gathered, value, group=group)
    if group is not None:
        dist.destroy_process_group(group)
    return gathered
