"""Max-activating examples of one latent: texts that a run has kept, or held-out texts or images read for it."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from heapq import nlargest
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sae_lightning.interpretation.excerpts import Example, Excerpts
from sae_lightning.interpretation.latents_on_images import LatentsOnImages
from sae_lightning.members import Member
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.data import columns_by_part
from sae_lightning.sources import TokenBatch


def kept_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield what `AutoInterp` has written to interpretation.jsonl, latent by latent; nothing without that file."""
    if path.is_file():
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)


def kept_line(path: Path, member: Member, latent: int) -> dict[str, Any] | None:
    """Return the line of a latent; None where there is none."""
    key = (str(member), latent)
    return next((line for line in kept_lines(path) if (line["member"], line["latent"]) == key), None)


@torch.no_grad()
def max_activating_examples(
    datamodule: Any, sae: SparseAutoencoder, part: str, latent: int, excerpts: Excerpts, n: int
) -> tuple[list[Example], float]:
    """Read text for the n excerpts on which a latent fires most strongly.

    Args:
        datamodule: whose source reads.
        sae: on the source's device.
        part: of the activations that the SAE reads.
        latent: its number.
        excerpts: the text; of those that repeat another none is taken.
        n: how many.

    Returns:
        The examples, the strongest first, fewer where it fires in fewer; and the latent's firing frequency over valid
        tokens.
    """
    own = columns_by_part(datamodule.widths).get(part, slice(None))
    activations, n_rows, n_valid = [], datamodule.llm_batch_size, 0
    for inputs in zip(excerpts.rows.input_ids.split(n_rows), excerpts.rows.mask.split(n_rows), strict=True):
        captured, mask = datamodule.source.capture(TokenBatch(*inputs))
        x = captured[mask][:, own].float().to(sae.device)
        n_valid += len(x)
        activations.append(_latent_on_tokens(sae, x, latent, mask.cpu()))
    by_excerpt = torch.cat(activations).view(-1, excerpts.length)
    peaks = by_excerpt.amax(1).where(excerpts.shown | excerpts.judged, 0)
    strongest = peaks.topk(min(n, len(peaks))).indices
    examples = [Example(excerpts[i], tuple(by_excerpt[i].tolist())) for i in strongest[peaks[strongest] > 0].tolist()]
    return examples, float((by_excerpt != 0).sum() / n_valid)


@torch.no_grad()
def max_activating_images(
    datamodule: Any, sae: SparseAutoencoder, part: str, latent: int, n_images: int, n: int
) -> tuple[list[tuple[int, float]], float]:
    """Read held-out images for the n on which a latent fires most strongly.

    Args:
        datamodule: a ClipImages.
        sae: on the source's device.
        part: of the activations that the SAE reads.
        latent: its number.
        n_images: that are read at most.
        n: how many.

    Returns:
        Their numbers with the largest activation at any position, the strongest first, fewer where it fires on fewer;
        and the latent's firing frequency over valid positions.
    """
    own = columns_by_part(datamodule.widths).get(part, slice(None))
    column = torch.tensor([latent], device=sae.device)
    numbers = datamodule.first_rows("heldout", n_images * datamodule.positions)[:, 0]
    readers = {part: lambda x: sae.encode(x[:, own]).columns(column).float()}
    batches = list(LatentsOnImages(datamodule, sae.device, numbers, readers))
    peaks = torch.cat([batch.peaks(part)[:, 0] for batch in batches]).cpu()
    strongest = [i for i in peaks.argsort(descending=True, stable=True)[:n].tolist() if peaks[i] > 0]
    fires = torch.cat([batch.latents[part] for batch in batches]) != 0
    return [(int(numbers[i]), float(peaks[i])) for i in strongest], float(fires.double().mean())


def _latent_on_tokens(sae: SparseAutoencoder, x: Tensor, latent: int, mask: Tensor) -> Tensor:
    """Return the activation of one latent on each token of a forward, flat; 0 on those that are not valid."""
    code = sae.encode(x)
    own = code.indices == latent
    on_valid = torch.zeros(len(x)).index_put((code.rows[own].cpu(),), code.values[own].float().cpu())
    return torch.zeros(mask.shape).masked_scatter(mask, on_valid).flatten()


def top_tokens(examples: Sequence[Example], n: int) -> list[tuple[str, float]]:
    """Return the n tokens with the largest sum of activations in the examples, and that sum."""
    sums: defaultdict[str, float] = defaultdict(float)
    for example in examples:
        for token, activation in zip(example.excerpt.tokens, example.activations, strict=True):
            sums[token] += activation
    strongest = nlargest(n, sums.items(), key=itemgetter(1))
    return [(token, total) for token, total in strongest if total > 0]
