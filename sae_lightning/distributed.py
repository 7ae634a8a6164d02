"""Collective operations that the core needs; with one process they return their argument.

Ranks lie on a mesh of the dimensions ("members", "data") and, where a dictionary is split, "latents". Along "data" they
hold the same SAEs, each on its share of the activations: what an SAE counts, selects or averages over the batch is
reduced along it. Along "members" they hold different SAEs, along "latents" other latents of the same SAEs, which is
`latent_mesh.py`. Without a mesh every rank holds all SAEs, and all ranks are one "data".
"""

from collections.abc import Hashable, Mapping
from enum import Enum
from typing import TypeVar

import torch
import torch.distributed as dist
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

MESH = ("members", "data")
"""Names of the dimensions of the mesh."""
_meshes: list[DeviceMesh] = []
"""The mesh of this process, if there is one."""
_beside_nccl: list[ProcessGroup] = []
"""The group of all ranks and its companion for tensors of the CPU, once that was needed."""


class Ranks(Enum):
    """Which ranks take part in a collective operation."""

    ALL = "all"
    SAME_MEMBERS = "data"
    """Those with the same SAEs as this one."""
    OTHER_MEMBERS = "members"
    """This one and, of each group of ranks with other SAEs, the one that has the same share of the activations."""


def use_mesh(mesh: DeviceMesh | None) -> None:
    """Lay the ranks on a mesh from now on, or on none."""
    _meshes[:] = [] if mesh is None else [mesh]


def has_mesh() -> bool:
    """Return whether the ranks lie on a mesh."""
    return bool(_meshes)


def is_over_members() -> bool:
    """Return whether the mesh is that of members on different ranks, of which each writes its part of a checkpoint."""
    return bool(_meshes) and _meshes[0].mesh_dim_names == MESH


def group_of(ranks: Ranks = Ranks.SAME_MEMBERS) -> ProcessGroup | None:
    """Return the process group of some ranks; None for that of all."""
    return _meshes[0].get_group(ranks.value) if _meshes and ranks is not Ranks.ALL else None


def cpu_group_of(ranks: Ranks) -> ProcessGroup | None:
    """Return a group of the same ranks through which tensors of the CPU go, so that no rank waits for its GPU.

    NCCL takes tensors of a GPU alone. Beside it stands one group of gloo, with its timeout, made when it is first
    needed; where NCCL is the only backend, groups are of all ranks or of this one.
    """
    if dist.get_backend(group_of(ranks)) != "nccl":
        return group_of(ranks)
    world = dist.group.WORLD
    assert world is not None
    if not _beside_nccl or _beside_nccl[0] is not world:
        timeout = world._get_backend(world._device_types[0]).options._timeout
        _beside_nccl[:] = [world, dist.new_group(backend="gloo", timeout=timeout)]
    return _beside_nccl[1]


def world_size(ranks: Ranks = Ranks.SAME_MEMBERS) -> int:
    """Return the number of processes among these ranks, 1 without `torch.distributed`."""
    if not (dist.is_available() and dist.is_initialized()) or (not _meshes and ranks is Ranks.OTHER_MEMBERS):
        return 1
    return dist.get_world_size(group_of(ranks))


def rank(ranks: Ranks = Ranks.SAME_MEMBERS) -> int:
    """Return the number of this process among these ranks, from 0."""
    return dist.get_rank(group_of(ranks)) if world_size(ranks) > 1 else 0


def is_first_of_members() -> bool:
    """Return whether this rank is the first of those that have the same SAEs, or parts of them."""
    if not _meshes:
        return rank() == 0
    names = _meshes[0].mesh_dim_names or ()
    return all(_meshes[0].get_local_rank(name) == 0 for name in names if name != Ranks.OTHER_MEMBERS.value)


def number_among_readers() -> tuple[int, int]:
    """Return the number of this process among those that read data of their own, and how many these are.

    Ranks that have parts of the same SAEs read the same.
    """
    own, other = (rank(ranks) for ranks in (Ranks.SAME_MEMBERS, Ranks.OTHER_MEMBERS))
    return other * world_size() + own, world_size() * world_size(Ranks.OTHER_MEMBERS)


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Replace each entry by its sum over the ranks with the same members, in place, and return the tensor."""
    if world_size() > 1:
        dist.all_reduce(tensor, group=group_of())
    return tensor


def all_reduce_min(tensor: Tensor) -> Tensor:
    """Replace each entry by its minimum over the ranks with the same members, in place, and return the tensor."""
    if world_size() > 1:
        dist.all_reduce(tensor, dist.ReduceOp.MIN, group=group_of())
    return tensor


def all_gather(tensor: Tensor) -> Tensor:
    """Return the tensors of the ranks with the same members, all of one shape, in order of ranks as [n_ranks, ...]."""
    if world_size() == 1:
        return tensor[None]
    gathered = tensor.new_empty((world_size(), *tensor.shape))
    dist.all_gather(list(gathered.unbind()), tensor, group=group_of())
    return gathered


def all_gather_int(value: int, lower_ranks_only: bool = False, ranks: Ranks = Ranks.SAME_MEMBERS) -> list[int]:
    """Return the value of every rank, in order of ranks; with `lower_ranks_only` those of the ranks before this one."""
    if world_size(ranks) == 1:
        return [] if lower_ranks_only else [value]
    gathered = [torch.zeros(1, dtype=torch.int64) for _ in range(world_size(ranks))]
    dist.all_gather(gathered, torch.tensor([value]), group=cpu_group_of(ranks))
    values = [int(part) for part in gathered]
    return values[: rank(ranks)] if lower_ranks_only else values


def join_members(values: Mapping[K, T]) -> dict[K, T]:
    """Return what is known of the members of this rank together with that of the members on other ranks.

    Args:
        values: by member or by name, the same on all ranks with the same members; see `all_gather_object`.
    """
    if world_size(Ranks.OTHER_MEMBERS) == 1:
        return dict(values)
    joined: dict[K, T] = {}
    for of_rank in all_gather_object(dict(values), Ranks.OTHER_MEMBERS):
        joined.update({key: value for key, value in of_rank.items() if key not in joined})
    return joined


def all_gather_object(value: T, ranks: Ranks = Ranks.SAME_MEMBERS) -> list[T]:
    """Return the value of every rank, in order of ranks.

    Args:
        value: plain Python or CPU tensors, since it is pickled on the way.
        ranks: that take part.
    """
    if world_size(ranks) == 1:
        return [value]
    gathered: list[T] = [value] * world_size(ranks)
    dist.all_gather_object(gathered, value, group=cpu_group_of(ranks))
    return gathered


def gather_on_first(value: T) -> list[T]:
    """Return the values of all ranks on the first of them, and on the others this rank's alone.

    Tensors are sent as they are, each into its place, and only what is left of a value without them is pickled: a
    pickled buffer would be in memory several times, and no other thread could run meanwhile.

    Args:
        value: mappings and sequences of plain Python and tensors.
    """
    n_ranks = world_size(Ranks.ALL)
    if n_ranks == 1:
        return [value]
    group, is_first = cpu_group_of(Ranks.ALL), rank(Ranks.ALL) == 0
    outline: T = apply_to_collection(value, Tensor, lambda tensor: tensor.to("meta"))
    outlines = [outline] * n_ranks
    dist.gather_object(outline, outlines if is_first else None, group=group)

    def send(tensor: Tensor) -> None:
        dist.send(tensor.detach().cpu().contiguous(), 0, group=group)

    def receive(outline: Tensor, sender: int) -> Tensor:
        tensor = torch.empty(outline.shape, dtype=outline.dtype)
        dist.recv(tensor, sender, group=group)
        return tensor

    if not is_first:
        apply_to_collection(value, Tensor, send)
        return [value]
    others = range(1, n_ranks)
    return [value, *(apply_to_collection(outlines[other], Tensor, receive, sender=other) for other in others)]


def of_first_rank(tensor: Tensor) -> Tensor:
    """Return the tensor of the first of all ranks, on the CPU where there are several; all have the same dtype."""
    if world_size(Ranks.ALL) == 1:
        return tensor
    group, shape = cpu_group_of(Ranks.ALL), torch.tensor(tensor.shape)
    dist.broadcast(shape, 0, group=group)
    is_first = rank(Ranks.ALL) == 0
    of_first = tensor.cpu().contiguous() if is_first else tensor.new_empty(tuple(shape.tolist()), device="cpu")
    dist.broadcast(of_first, 0, group=group)
    return of_first
