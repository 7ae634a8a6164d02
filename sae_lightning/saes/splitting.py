"""Deal the latents of an SAE out over ranks, and put them together again."""

import copy
from typing import TypeAlias

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from sae_lightning.distributed import world_size
from sae_lightning.latent_mesh import LatentMesh
from sae_lightning.saes.base import SparseAutoencoder

Dealt: TypeAlias = tuple[LatentMesh, int]
"""How a tensor is dealt out: over which mesh, and along which dimension."""


@torch.no_grad()
def split_latents(sae: SparseAutoencoder, mesh: DeviceMesh) -> None:
    """Keep of an SAE the latents of this rank, in place; before an optimizer is made of its parameters.

    From here on `losses`, `encode`, `decode`, `constrain` and `settle` are collective calls, for which every rank has
    the same activations; codes and losses are those of the whole SAE.

    Args:
        sae: whole, the same on all ranks.
        mesh: of one dimension.

    Raises:
        ValueError: if the SAE is split already, a rank would have no latent, or the ranks of the mesh are taken to
            have different data.
    """
    if sae.mesh.size > 1:
        raise ValueError(f"this SAE is split over {sae.mesh.size} ranks already")
    if world_size() * mesh.size() > dist.get_world_size():
        raise ValueError(
            f"{mesh.size()} ranks would share the latents, and {world_size()} share the data: ranks that share latents "
            'have the same data; lay all ranks on a mesh ("members", "data", "latents") with '
            "sae_lightning.distributed.use_mesh, and give its part mesh['latents']"
        )
    sae.mesh = LatentMesh(sae.mesh.groups, mesh)
    if sae.mesh.size == 1:
        return
    for name, dim in sae.by_latent.items():
        tensor = getattr(sae, name)
        own = sae.mesh.cut(tensor.detach(), dim)
        is_parameter = isinstance(tensor, nn.Parameter)
        setattr(sae, name, nn.Parameter(own, tensor.requires_grad) if is_parameter else own)


def dealt_out(module: nn.Module) -> dict[str, Dealt]:
    """Return by name how the tensors of a module's state are dealt out that are."""
    return {
        f"{prefix}.{name}".removeprefix("."): (sae.mesh, dim)
        for prefix, sae in module.named_modules()
        if isinstance(sae, SparseAutoencoder) and sae.mesh.size > 1
        for name, dim in sae.by_latent.items()
    }


@torch.no_grad()
def whole(sae: SparseAutoencoder) -> SparseAutoencoder | None:
    """Return an SAE with the latents of all ranks, on the CPU of the first rank; a collective call.

    Args:
        sae: not changed.

    Returns:
        The SAE itself where it is not split; None on all ranks but the first.
    """
    if sae.mesh.size == 1:
        return sae
    joined = {name: sae.mesh.whole(getattr(sae, name), dim) for name, dim in sae.by_latent.items()}
    if sae.mesh.rank:
        return None
    twin = copy.copy(sae)
    twin.mesh = LatentMesh(sae.mesh.groups)
    twin._parameters = {
        name: None if own is None else nn.Parameter(joined[name] if name in joined else own.cpu(), own.requires_grad)
        for name, own in sae._parameters.items()  # an SAE without a skip path has None for it
    }
    twin._buffers = {
        name: joined[name] if name in joined else own.cpu() for name, own in sae.named_buffers(recurse=False)
    }
    return twin
