"""The l0 of an encoder that is not trained: k, or one threshold, set so that samples have the l0 that is asked for."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.code import Code
from sae_lightning.kernels import PreActs, entries_above, largest_per_row
from sae_lightning.kernels.select import largest
from sae_lightning.saes import BatchTopK, SparseAutoencoder, TopK

_NEAR = 0.01
"""Share of l0 by which a whole k, or a k of which some entries are not positive, may differ from it."""
_SAMPLED_ENTRIES = 2**23
"""Pre-activations from which a threshold is guessed."""
_RELATIVE_STEP = 1e-6
"""Smallest latent above a threshold that was raised to be positive, as a share of the largest."""


def calibrate(own: SparseAutoencoder, centred: Float[Tensor, "n d_in"], l0: float) -> Code:
    """Set k or threshold of an encoder, and where needed shift `b_enc`; return the latents of the samples.

    A BatchTopK gets the threshold that so many entries exceed. Where that is not positive, `b_enc` rises with it, the
    same for all latents. A TopK gets k = l0. Where l0 is no whole number, or too few of the k largest entries are
    positive, `b_enc` is shifted, the same for all latents, until so many of them are.

    Args:
        own: TopK or BatchTopK with `W_enc` and `b_enc`.
        centred: samples less `b_dec`.
        l0: latents per sample, at most d_sae.
    """
    pre_acts = PreActs(centred, own.W_enc, own.b_enc)
    if isinstance(own, TopK):
        return _set_k(own, pre_acts, l0)
    assert isinstance(own, BatchTopK)
    return _set_threshold(own, pre_acts, l0)


def _set_threshold(own: BatchTopK, pre_acts: PreActs, l0: float) -> Code:
    n = min(max(1, round(l0 * pre_acts.batch_size)), pre_acts.batch_size * pre_acts.d_sae)
    code = _with_more_than(n, pre_acts)
    values, _ = largest(code.values[None], min(n + 1, code.nnz))
    values = values[0].sort(descending=True).values
    if code.nnz > n:
        limit = float((values[n - 1].double() + values[n].double()) / 2)
    else:  # all entries there are
        limit = float(values[-1]) - _step(values)
    threshold = max(limit, _step(values))
    own.k = max(1, min(own.d_sae, round(l0)))
    own.threshold.fill_(threshold)
    own.b_enc.add_(threshold - limit)
    code = code.where(code.values > limit)
    return code.with_values(code.values + (threshold - limit))


def _with_more_than(n: int, pre_acts: PreActs) -> Code:
    """Return the largest entries of the batch, more than n of them if there are more."""
    n_rows = max(1, min(pre_acts.batch_size, _SAMPLED_ENTRIES // pre_acts.d_sae))
    rows = torch.arange(n_rows, device=pre_acts.device) * pre_acts.batch_size // n_rows
    sampled = pre_acts.exact(rows).flatten()
    expected = n * n_rows / pre_acts.batch_size
    for factor in (1.1, 1.5, 3.0):
        k = math.ceil(factor * expected) + 1
        if k < len(sampled):
            code = entries_above(pre_acts, float(largest(sampled[None], k)[0].min()))
            if code.nnz > n:
                return code
    return entries_above(pre_acts, -math.inf)


def _set_k(own: TopK, pre_acts: PreActs, l0: float) -> Code:
    whole = max(1, round(l0))
    k = whole if abs(whole / l0 - 1) <= _NEAR else math.ceil(l0)
    values, indices = largest_per_row(pre_acts, k)
    entries = l0 * len(values)
    own.k = k
    shift = 0.0
    if abs(int((values > 0).sum()) / entries - 1) > _NEAR:
        # Nearly all where k = l0: the last few may be far below zero, and the shift is added to all latents.
        n = max(1, round(min(entries, (1 - _NEAR / 2) * values.numel())))
        in_order = values.flatten().sort(descending=True).values
        shift = _step(in_order) - float(in_order[n - 1])
    own.b_enc.add_(shift)
    return Code.from_rows((values + shift).relu(), indices, own.d_sae)


def _step(values: Tensor) -> float:
    """Return a difference that float32 holds beside these values."""
    return max(_RELATIVE_STEP * float(values.abs().max()), 1e-30)
