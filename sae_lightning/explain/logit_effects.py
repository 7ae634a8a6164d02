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
_N_BINS = 30


@torch.no_grad()
def direct_logit_effects(
    datamodule: Any, directions: Float[Tensor, "n_latents d_in"], n: int
) -> list[dict[str, Any]] | None:
    """Return, for each direction, the n tokens whose logits it raises (`promoted`) and lowers (`suppressed`) most.

    What it does to the whole vocabulary is the `histogram`: ends `low` and `high` of equal bins, and their `counts`.

    Args:
        datamodule: one of `TEXT_DATA`.
        directions: decoder directions of latents.
        n: how many tokens of each kind.

    Returns:
        For each direction both lists of tokens, with what a unit of the latent adds to their logits, and the histogram;
        None if the directions are not of the residual stream, or the model has no head.
    """
    is_cache = isinstance(datamodule.source, CachedSource)
    source: Any = datamodule.source.loaded() if is_cache else datamodule.source
    unembedding = read_unembedding(source)
    if unembedding is None or len(unembedding.W_U) != directions.shape[1]:
        return None
    W_U, rows, histograms = unembedding.W_U, [], []
    n = min(n, W_U.shape[1])
    for block in directions.to(W_U).split(max(1, _BLOCK_ENTRIES // W_U.shape[1])):
        effects = block @ W_U
        histograms += _histograms(effects.float())
        ends = {name: effects.topk(n, largest=name == "promoted") for name in ("promoted", "suppressed")}
        rows += [
            {name: (top.indices[i].tolist(), top.values[i].tolist()) for name, top in ends.items()}
            for i in range(len(block))
        ]
    ids = sorted({token for row in rows for tokens, _ in row.values() for token in tokens})
    texts = dict(zip(ids, token_texts(datamodule.packing.tokenizer, ids), strict=True))
    return [
        {name: [(texts[i], value) for i, value in zip(*pair, strict=True)] for name, pair in row.items()}
        | {"histogram": histogram}
        for row, histogram in zip(rows, histograms, strict=True)
    ]


def _histograms(effects: Float[Tensor, "n_latents d_vocab"]) -> list[dict[str, Any]]:
    low, high = effects.amin(1, keepdim=True), effects.amax(1, keepdim=True)
    width = (high - low).clamp(min=torch.finfo(effects.dtype).tiny) / _N_BINS
    bins = ((effects - low) / width).long().clamp(max=_N_BINS - 1)
    counts = torch.zeros(len(effects), _N_BINS, dtype=torch.int64, device=effects.device)
    counts.scatter_add_(1, bins, torch.ones_like(bins))
    ends = zip(low[:, 0].tolist(), high[:, 0].tolist(), counts.tolist(), strict=True)
    return [{"low": first, "high": last, "counts": own} for first, last, own in ends]
