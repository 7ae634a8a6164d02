"""What the weights of an SAE say by themselves, without a model."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sae_lightning.formats.stored import UNIT_NORM_WITHIN
from sae_lightning.saes import SparseAutoencoder

_ZERO = 1e-8
_DECIMALS = 4
"""Unit directions that agree to so many decimals are duplicates."""
_UNALIGNED = 3.0
"""A mean cosine below this many standard errors of random pairs is that of random pairs."""


@dataclass(frozen=True)
class WeightCheck:
    """Numbers and findings.

    Args:
        values: by name, plain values.
        findings: what a trained SAE should not have, sentences.
    """

    values: dict[str, Any]
    findings: list[str]


@torch.no_grad()
def check_weights(sae: SparseAutoencoder) -> WeightCheck:
    """Measure norms, the likeness of encoder and decoder, dead and duplicated directions, and thresholds."""
    W_enc, W_dec = sae.W_enc.detach().T, sae.W_dec.detach()  # noqa: N806
    decoder, encoder = (torch.linalg.vector_norm(matrix, dim=1) for matrix in (W_dec, W_enc))
    values: dict[str, Any] = {
        "decoder_norm": _spread(decoder),
        "encoder_norm": _spread(encoder),
        "b_dec_norm": float(sae.b_dec.norm()),
        "b_enc": _spread(sae.b_enc.detach()),
        "unit_norm_decoder": bool((decoder - 1).abs().max() < UNIT_NORM_WITHIN),
        "zero_decoder_rows": int((decoder < _ZERO).sum()),
        "zero_encoder_columns": int((encoder < _ZERO).sum()),
        "duplicated_decoder_rows": _duplicated(W_dec[decoder >= _ZERO]),
    }
    findings = []
    if sae.is_transcoder:  # its directions are of two spaces
        values |= {} if sae.W_skip is None else {"skip_norm": float(sae.W_skip.norm())}
    else:
        cosine = float((normalize(W_enc, dim=1) * normalize(W_dec, dim=1)).sum(1).mean())
        values["encoder_decoder_cosine"] = cosine
        chance = 1 / (sae.d_in * sae.d_sae) ** 0.5  # standard error of the mean over random pairs
        if sae.d_sae > 1 and cosine < _UNALIGNED * chance:
            findings.append(
                f"encoder and decoder directions of one latent are no more alike than random ones (mean cosine "
                f"{cosine:.3f}), which training does not leave: the latents of one matrix may be in another order, or "
                "a matrix lies the wrong way"
            )
    for name, what in (
        ("zero_decoder_rows", "decoder directions are zero"),
        ("zero_encoder_columns", "encoder directions are zero, so these latents say nothing of the input"),
        ("duplicated_decoder_rows", "decoder directions are there more than once"),
    ):
        if values[name]:
            findings.append(f"{values[name]} of {sae.d_sae} {what}")
    if isinstance(threshold := getattr(sae, "threshold", None), Tensor):
        values["threshold"] = _spread(threshold.detach().reshape(-1))
        if sae.d_sae > 1 and threshold.dim() and not threshold.any():
            findings.append("every threshold is 0: this is a plain ReLU, or the thresholds were lost")
    return WeightCheck(values, findings)


def _spread(x: Tensor) -> dict[str, float]:
    return {"least": float(x.min()), "median": float(x.median()), "largest": float(x.max())}


def _duplicated(rows: Tensor) -> int:
    """Return how many directions are there already."""
    if not len(rows):
        return 0
    rounded = normalize(rows, dim=1).mul(10**_DECIMALS).round_().to(torch.int16)
    return len(rows) - len(torch.unique(rounded, dim=0))
