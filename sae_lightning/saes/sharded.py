"""SAEs whose latents lie on several ranks in files of `torch.distributed.checkpoint`: each rank writes what it has.

A folder written by any number of ranks is read by any other, and by one process. Each tensor of latents is written
once for every group of these (a Matryoshka SAE has several), as a tensor that is sharded over ranks.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

from sae_lightning.saes.base import SparseAutoencoder


def save_sharded(sae: SparseAutoencoder, folder: Path | str) -> None:
    """Write the state of an SAE; a collective call where it is split.

    Args:
        sae: not changed.
        folder: created if needed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of one process DCP says that there is one
        dcp.save(_parts(sae), checkpoint_id=folder, no_dist=sae.mesh.size == 1)


def load_sharded(sae: SparseAutoencoder, folder: Path | str) -> None:
    """Read what `save_sharded` wrote into an SAE of the same class and sizes; a collective call where it is split.

    Args:
        sae: whole or split, over any number of ranks; changed in place.
        folder: that was written.
    """
    parts = _parts(sae)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(parts, checkpoint_id=folder, no_dist=sae.mesh.size == 1)
    for name, tensor in sae.state_dict().items():  # numbers of no dimension are not read in place
        if name not in sae.by_latent:
            tensor.copy_(parts[name])
    sae.is_initialised, sae.b_dec_awaits_data = True, False


def _parts(sae: SparseAutoencoder) -> dict[str, Any]:
    """Return views of the state by name, of latents in a list with one tensor for each group."""
    return {
        name: _groups(sae, tensor, sae.by_latent[name]) if name in sae.by_latent else tensor
        for name, tensor in sae.state_dict().items()
    }


def _groups(sae: SparseAutoencoder, tensor: Tensor, dim: int) -> list[Tensor]:
    mesh = sae.mesh
    own = tensor.split([len(part) for part in mesh.own], dim)
    if mesh.mesh is None or mesh.size == 1:
        return list(own)
    return [
        DTensor.from_local(
            part,
            mesh.mesh,
            [Shard(dim)],
            run_check=False,
            shape=torch.Size((*part.shape[:dim], n, *part.shape[dim + 1 :])),
            stride=part.stride(),
        )
        for part, n in zip(own, mesh.groups, strict=True)
    ]
