"""What one latent fires on most strongly: texts that a run has kept, or held-out texts or pictures read for it."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sae_lightning.interpretation.excerpts import Example, Excerpts
from sae_lightning.interpretation.latents_on_images import LatentsOnImages
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
    own = _columns_of(part, datamodule.widths or {part: sae.d_in})
    activations, n_rows = [], datamodule.llm_batch_size
    for inputs in zip(excerpts.rows.input_ids.split(n_rows), excerpts.rows.mask.split(n_rows), strict=True):
        captured, counts = datamodule.source.capture(TokenBatch(*inputs))
        x = captured[counts][:, own].float().to(sae.device)
        activations.append(_of_latent(sae, x, latent, counts.cpu()))
    each = torch.cat(activations).view(-1, excerpts.length)
    peaks = each.amax(1).where(excerpts.shown | excerpts.judged, 0)
    strongest = peaks.topk(min(n, len(peaks))).indices
    examples = [Example(excerpts[i], tuple(each[i].tolist())) for i in strongest[peaks[strongest] > 0].tolist()]
    return examples, float((each != 0).sum() / excerpts.rows.mask.sum())


@torch.no_grad()
def read_strongest_pictures(
    datamodule: Any, sae: SparseAutoencoder, part: str, latent: int, n_pictures: int, n: int
) -> tuple[list[tuple[int, float]], float]:
    """The n held-out pictures on which a latent fires most strongly, fewer where it fires on fewer.

    Args:
        datamodule: a ClipImages.
        sae: on the source's device.
        part: of the activations that the SAE reads.
        latent: its number.
        n_pictures: that are read at most.
        n: how many.

    Returns:
        Their numbers with the largest activation at any position, the strongest first, and the latent's firing
        frequency over positions that count.
    """
    own = _columns_of(part, datamodule.widths or {part: sae.d_in})
    column = torch.tensor([latent], device=sae.device)
    numbers = datamodule.first_rows("heldout", n_pictures * datamodule.positions)[:, 0]
    readers = {part: lambda x: sae.encode(x[:, own]).columns(column).float()}
    read = list(LatentsOnImages(datamodule, sae.device, numbers, readers))
    peaks = torch.cat([of.peaks(part)[:, 0] for of in read]).cpu()
    strongest = [i for i in peaks.argsort(descending=True, stable=True)[:n].tolist() if peaks[i] > 0]
    fires = torch.cat([of.latents[part] for of in read]) != 0
    return [(int(numbers[i]), float(peaks[i])) for i in strongest], float(fires.double().mean())


def _columns_of(part: str, widths: Mapping[str, int]) -> slice:
    """Where a part stands in the activations."""
    ends = [0, *accumulate(widths.values())]
    return slice(*dict(zip(widths, pairwise(ends), strict=True))[part])


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
