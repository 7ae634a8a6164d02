"""What decoder directions are made of: their neighbours, and the meta-latents that explain them.

A meta-SAE is an SAE of the decoder directions of another, the base (Leask et al. 2025, arXiv 2502.04878). Where a few
meta-latents explain a direction, and other directions share them, the latent is not atomic. Cosines are signed.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from sae_lightning.saes.base import SparseAutoencoder


@dataclass(frozen=True)
class Related:
    """A latent and how much it has to do with the one that was asked about.

    Args:
        latent: its number.
        value: a cosine, or how strongly a meta-latent fires on it.
    """

    latent: int
    value: float


@dataclass(frozen=True)
class MetaLatent:
    """A meta-latent that fires on the decoder direction of a latent.

    Args:
        latent: number of the meta-latent.
        value: how strongly it fires.
        others: the other latents of the base on which it fires most strongly, the strongest first.
    """

    latent: int
    value: float
    others: list[Related]


def nearest_latents(
    direction: Float[Tensor, " d_in"], W_dec: Float[Tensor, "d_sae d_in"], n: int, but: int | None = None
) -> list[Related]:
    """The n decoder directions with the largest cosine to a direction, fewer where there are fewer.

    Args:
        direction: of any norm.
        W_dec: the dictionary.
        n: how many.
        but: a latent that is left out: the one whose direction it is.
    """
    cosines = normalize(W_dec.detach(), dim=1) @ normalize(direction.detach(), dim=0)
    if but is not None:
        cosines[but] = -torch.inf
    return _largest(cosines, min(n, len(cosines) - (but is not None)))


def meta_latents_of(
    meta: SparseAutoencoder, W_dec: Float[Tensor, "d_sae d_in"], latent: int, n_others: int
) -> tuple[list[MetaLatent], float]:
    """The meta-latents that fire on the direction of a latent, the strongest first, and how much they explain of it.

    Args:
        meta: a meta-SAE of this dictionary.
        W_dec: the dictionary, of any norm.
        latent: a row of it.
        n_others: other latents that are named for each meta-latent.

    Returns:
        The meta-latents, and 1 - ||d - d_hat||^2 / ||d - mean||^2 with the mean direction of the dictionary.
    """
    rows = normalize(W_dec.detach(), dim=1)
    code = meta.encode(rows)
    found = []
    own = (code.rows == latent) & (code.values != 0)
    for which in own.nonzero()[:, 0][code.values[own].argsort(descending=True)].tolist():
        same = code.indices == code.indices[which]
        values = code.values.new_zeros(len(rows)).index_put((code.rows[same],), code.values[same])
        values[latent] = 0
        others = [other for other in _largest(values, min(n_others, len(values))) if other.value > 0]
        found.append(MetaLatent(int(code.indices[which]), float(code.values[which]), others))
    error = rows[latent] - meta.decode(code.take(torch.tensor([latent], device=rows.device)))[0]
    return found, 1 - float(error.square().sum() / (rows[latent] - rows.mean(0)).square().sum())


def _largest(values: Float[Tensor, " n"], n: int) -> list[Related]:
    top = values.topk(n)
    return [Related(latent, value) for latent, value in zip(top.indices.tolist(), top.values.tolist(), strict=True)]
