"""Latents that are related to a decoder direction: its neighbours, and the meta-latents that explain it.

A meta-SAE is an SAE of the decoder directions of another, the base (Leask et al. 2025, arXiv 2502.04878). Where a few
meta-latents explain a direction, and other directions share them, the latent is not atomic. Cosines are signed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from sae_lightning.saes.base import SparseAutoencoder

_BLOCK_ENTRIES = 2**24


@dataclass(frozen=True)
class Related:
    """A latent that is related to the one in question.

    Args:
        latent: its number.
        value: their cosine, or how strongly a meta-latent fires on the related latent.
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


def nearest_latents(direction: Float[Tensor, " d_in"], W_dec: Float[Tensor, "d_sae d_in"], n: int) -> list[Related]:
    """Return the n decoder directions with the largest cosine to a direction; all of them if there are fewer.

    Args:
        direction: of any norm.
        W_dec: the dictionary.
        n: how many.
    """
    cosines = normalize(W_dec.detach(), dim=1) @ normalize(direction.detach(), dim=0)
    return _largest(cosines, min(n, len(cosines)))


def neighbours(W_dec: Float[Tensor, "d_sae d_in"], latents: Sequence[int], n: int) -> list[list[Related]]:
    """Return, for each of these latents, the n others whose decoder directions have the largest cosine to its own."""
    rows = normalize(W_dec.detach(), dim=1)
    nearest = []
    for part in torch.tensor(latents, device=rows.device).split(max(1, _BLOCK_ENTRIES // len(rows))):
        cosines = rows[part] @ rows.T
        cosines[torch.arange(len(part)), part] = -torch.inf
        nearest += [_largest(row, min(n, len(rows) - 1)) for row in cosines]
    return nearest


def meta_latents_of(
    meta: SparseAutoencoder, W_dec: Float[Tensor, "d_sae d_in"], latents: Sequence[int], n_others: int
) -> list[tuple[list[MetaLatent], float]]:
    """Return the meta-latents that fire on directions, the strongest first, and how much they explain of each.

    Args:
        meta: a meta-SAE of this dictionary.
        W_dec: the dictionary, of any norm.
        latents: rows of it.
        n_others: other latents that are named for each meta-latent.

    Returns:
        For each latent its meta-latents, and 1 - ||d - d_hat||^2 / ||d - mean||^2 with the mean direction of the
        dictionary.
    """
    rows = normalize(W_dec.detach(), dim=1)
    code = meta.encode(rows)
    code = code.where(code.values != 0)
    order, starts = code.by_latent
    mean = rows.mean(0)
    explained = []
    for latent in latents:
        own = torch.arange(int(code.offsets[latent]), int(code.offsets[latent + 1]), device=rows.device)
        meta_latents = []
        for which in own[code.values[own].argsort(descending=True)].tolist():
            number = int(code.indices[which])
            same = order[int(starts[number]) : int(starts[number + 1])]
            others = same[code.rows[same] != latent]
            top = others[code.values[others].argsort(descending=True, stable=True)[:n_others]]
            related = [Related(int(code.rows[i]), float(code.values[i])) for i in top if code.values[i] > 0]
            meta_latents.append(MetaLatent(number, float(code.values[which]), related))
        error = rows[latent] - meta.decode(code.take(torch.tensor([latent], device=rows.device)))[0]
        explained.append((meta_latents, 1 - float(error.square().sum() / (rows[latent] - mean).square().sum())))
    return explained


def _largest(values: Float[Tensor, " n"], n: int) -> list[Related]:
    top = values.topk(n)
    return [Related(latent, value) for latent, value in zip(top.indices.tolist(), top.values.tolist(), strict=True)]
