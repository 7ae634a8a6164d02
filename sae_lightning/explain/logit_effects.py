"""What decoder directions do to the logits by themselves: direct logit effects, `W_dec[i] @ W_U`.

They are those of the unembedding alone; what the blocks between the hook and the head make of a direction is left out.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.datamodules import CachedActivations, LanguageModelDataModule
from sae_lightning.datamodules.cache.source import CachedSource
from sae_lightning.density.logits import read_unembedding
from sae_lightning.interpretation.excerpts import token_texts

TEXT_DATA = (LanguageModelDataModule, CachedActivations)
"""Data whose model reads text, and so may have logits."""
_BLOCK_ENTRIES = 2**24


@torch.no_grad()
def direct_logit_effects(
    datamodule: Any, directions: Float[Tensor, "n_latents d_in"], n: int
) -> list[dict[str, list[tuple[str, float]]]] | None:
    """Return, for each direction, the n tokens whose logits it raises (`promoted`) and lowers (`suppressed`) most.

    Args:
        datamodule: one of `TEXT_DATA`.
        directions: decoder directions of latents.
        n: how many tokens of each kind.

    Returns:
        For each direction both lists of tokens, with what a unit of the latent adds to their logits; None if the
        directions are not of the residual stream, or the model has no head.
    """
    is_cache = isinstance(datamodule.source, CachedSource)
    source: Any = datamodule.source.loaded() if is_cache else datamodule.source
    unembedding = read_unembedding(source)
    if unembedding is None or len(unembedding.W_U) != directions.shape[1]:
        return None
    W_U, rows = unembedding.W_U, []
    n = min(n, W_U.shape[1])
    for block in directions.to(W_U).split(max(1, _BLOCK_ENTRIES // W_U.shape[1])):
        effects = block @ W_U
        ends = {name: effects.topk(n, largest=name == "promoted") for name in ("promoted", "suppressed")}
        rows += [
            {name: (top.indices[i].tolist(), top.values[i].tolist()) for name, top in ends.items()}
            for i in range(len(block))
        ]
    ids = sorted({token for row in rows for tokens, _ in row.values() for token in tokens})
    texts = dict(zip(ids, token_texts(datamodule.packing.tokenizer, ids), strict=True))
    return [
        {name: [(texts[i], value) for i, value in zip(*pair, strict=True)] for name, pair in row.items()}
        for row in rows
    ]
