"""The texts on which one latent fires most strongly: those that a run has kept, or held-out text read for it."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sae_lightning.interpretation.excerpts import Example, Excerpts
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.sources import TokenBatch


def kept_lines(path: Path) -> Iterator[dict[str, Any]]:
    """What `AutoInterp` has written to interpretation.jsonl, a latent at a time; nothing without that file."""
    if path.is_file():
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)


def kept_line(path: Path, member: str, latent: int) -> dict[str, Any] | None:
    """The line of a latent; None where there is none."""
    return next((line for line in kept_lines(path) if (line["member"], line["latent"]) == (member, latent)), None)


@torch.no_grad()
def read_strongest(
    datamodule: Any, sae: SparseAutoencoder, part: str, latent: int, excerpts: Excerpts, n: int
) -> tuple[list[Example], float]:
    """The n excerpts on which a latent fires most strongly, fewer where it fires in fewer, and its firing frequency.

    Args:
        datamodule: whose source reads.
        sae: on the source's device.
        part: of the activations that the SAE reads.
        latent: its number.
        excerpts: the text; of those that repeat another none is taken.
        n: how many.
    """
    ends = [0, *accumulate((datamodule.widths or {part: sae.d_in}).values())]
    begin, end = dict(zip(datamodule.widths or [part], pairwise(ends), strict=True))[part]
    activations, n_rows = [], datamodule.llm_batch_size
    for inputs in zip(excerpts.rows.input_ids.split(n_rows), excerpts.rows.mask.split(n_rows), strict=True):
        captured, counts = datamodule.source.capture(TokenBatch(*inputs))
        x = captured[counts][:, begin:end].float().to(sae.device)
        activations.append(_of_latent(sae, x, latent, counts.cpu()))
    each = torch.cat(activations).view(-1, excerpts.length)
    peaks = each.amax(1).where(excerpts.shown | excerpts.judged, 0)
    strongest = peaks.topk(min(n, len(peaks))).indices
    examples = [Example(excerpts[i], tuple(each[i].tolist())) for i in strongest[peaks[strongest] > 0].tolist()]
    return examples, float((each != 0).sum() / excerpts.rows.mask.sum())


def _of_latent(sae: SparseAutoencoder, x: Tensor, latent: int, counts: Tensor) -> Tensor:
    """What one latent does on each token of a forward, flat; 0 on those that do not count."""
    code = sae.encode(x)
    own = code.indices == latent
    of_counted = torch.zeros(len(x)).index_put((code.rows[own].cpu(),), code.values[own].float().cpu())
    return torch.zeros(counts.shape).masked_scatter(counts, of_counted).flatten()


def top_tokens(examples: Sequence[Example], n: int) -> list[tuple[str, float]]:
    """The n tokens with the largest sum of activations in the examples, and that sum."""
    sums: Counter[str] = Counter()
    for example in examples:
        for token, activation in zip(example.excerpt.tokens, example.activations, strict=True):
            sums[token] += activation  # type: ignore[assignment]
    return [(token, float(total)) for token, total in sums.most_common(n) if total > 0]
