"""The formulas of the metrics as pure functions: `*_update` returns sums over a batch, `*_compute` the metric of sums.

Sums are float64 whatever the precision of training; a device without float64 (MPS) cannot hold them. Their terms are
float32 or better, from operations that autocast leaves alone. Sums of two batches, or of two ranks, are added; moments
are merged by `moments_merge`.

Zeros: the direction of a zero vector is undefined, so a sample x = 0 is left out of the cosine and of the relative
norm, and a reconstruction x_hat = 0 has cosine 0. Means over no samples are nan.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.linalg import vecdot, vector_norm

_RELATIVE_VARIANCE_OF_ROUNDING = 1e-28
"""Variance over squared mean below which data count as constant.

The float64 rounding of the mean alone gives constant data about 1e-30; float32 data that differ in a single last digit
have at least 1e-16 / n_samples."""


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _norms(x: Float[Tensor, "batch d_in"]) -> Float[Tensor, " batch"]:
    return vector_norm(x, dim=1, dtype=torch.float64)


def moments_update(x: Float[Tensor, "batch d_in"]) -> Float[Tensor, " d_in_and_2"]:
    """Return in one vector the number of samples, their summed squared deviation from their mean, and that mean."""
    x = x.double()
    mean = x.mean(0) if len(x) else x.new_zeros(x.shape[1])
    return torch.cat([x.new_tensor([len(x)]), (x - mean).square().sum()[None], mean])


def moments_merge(parts: Float[Tensor, "parts d_in_and_2"]) -> Float[Tensor, " d_in_and_2"]:
    """Return the moments of the union of disjoint sets from the moments of each.

    Chan, Golub, LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances": squared
    deviations from each part's own mean, plus those of the means from the common one. Unlike in E[x^2] - E[x]^2, no
    large squares are subtracted from each other.
    """
    n, deviation, means = parts[:, 0], parts[:, 1], parts[:, 2:]
    weights = n / n.sum().clamp(min=1)
    mean = (weights[:, None] * means).sum(0)
    between = (n * (means - mean).square().sum(1)).sum()
    return torch.cat([n.sum()[None], (deviation.sum() + between)[None], mean])


def squared_error_update(x: Float[Tensor, "batch d_in"], x_hat: Float[Tensor, "batch d_in"]) -> Float[Tensor, ""]:
    """Return the sum of ||x - x_hat||^2 over the batch."""
    return (_wide(x) - _wide(x_hat)).square().sum(dtype=torch.float64)


def explained_variance_compute(
    squared_error: Float[Tensor, ""], moments: Float[Tensor, " d_in_and_2"]
) -> Float[Tensor, ""]:
    """Return 1 - sum ||x - x_hat||^2 / sum ||x - mean||^2, never clamped; nan where x is constant or there is none."""
    n, deviation, mean = moments[0], moments[1], moments[2:]
    varies = deviation > _RELATIVE_VARIANCE_OF_ROUNDING * n * mean.square().sum()
    return torch.where(varies, 1 - squared_error / deviation, torch.nan)


def cosine_similarity_update(
    x: Float[Tensor, "batch d_in"], x_hat: Float[Tensor, "batch d_in"]
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """Return the sum of cos(x, x_hat) over samples x != 0, and their number."""
    norms, norms_hat = _norms(x), _norms(x_hat)
    cosines = (_wide(x) * _wide(x_hat)).sum(1) / (norms * norms_hat)
    return torch.where((norms == 0) | (norms_hat == 0), 0, cosines).sum(), (norms != 0).sum()


def relative_norm_update(
    x: Float[Tensor, "batch d_in"], x_hat: Float[Tensor, "batch d_in"]
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """Return the sum of ||x_hat|| / ||x|| over samples x != 0, and their number."""
    norms = _norms(x)
    ratios = _norms(x_hat) / norms
    return torch.where(norms == 0, 0, ratios).sum(), (norms != 0).sum()


def mean_prediction_update(
    x: Float[Tensor, "batch d_in"],
) -> tuple[Float[Tensor, " d_in"], Float[Tensor, " d_in"], Float[Tensor, ""], Int[Tensor, ""], int]:
    """Return the sums of x, of x / ||x|| and of 1 / ||x||, the number of samples x != 0, and of all samples."""
    x, norms = x.double(), _norms(x)
    inverse_norms = torch.where(norms == 0, 0, 1 / norms)
    return x.sum(0), (inverse_norms[:, None] * x).sum(0), inverse_norms.sum(), (norms > 0).sum(), len(x)


def mean_prediction_compute(
    total: Float[Tensor, " d_in"],
    unit_total: Float[Tensor, " d_in"],
    inverse_norm_total: Float[Tensor, ""],
    n_nonzero: Int[Tensor, ""],
    n_samples: Int[Tensor, ""],
) -> dict[str, Float[Tensor, ""]]:
    """Return cosine and relative norm of x_hat = mean(x) without a second pass over the data.

    mean_i cos(x_i, m) = (mean_i x_i / ||x_i||) . m / ||m||, and mean_i ||m|| / ||x_i|| = ||m|| mean_i 1 / ||x_i||.
    """
    mean = total / n_samples
    norm = vector_norm(mean)
    cosine = torch.where(norm == 0, 0, vecdot(unit_total, mean) / norm)
    return {"cosine": cosine / n_nonzero, "relative_norm": norm * inverse_norm_total / n_nonzero}


def token_losses_update(
    logits: Float[Tensor, "batch seq vocab"],
    clean_logits: Float[Tensor, "batch seq vocab"],
    input_ids: Int[Tensor, "batch seq"],
    valid: Bool[Tensor, "batch seq"],
) -> Float[Tensor, "batch 3"]:
    """Return for each text the sums of next-token cross-entropy and of KL, in nats, and the number of predictions.

    The prediction at position t is scored if t and its target t + 1 are both valid. KL is that of the edited from the
    clean distribution. Log-probabilities are float32 (one row at a time: a vocabulary is large), their sums float64.

    Args:
        logits: of the model whose activations are edited.
        clean_logits: of the same model, unedited.
        input_ids: the tokens.
        valid: False on special tokens and padding.

    Returns:
        [batch, 3] float64.
    """
    texts = []
    is_scored = valid[:, :-1] & valid[:, 1:]
    for row, clean_row, ids, scored in zip(logits, clean_logits, input_ids, is_scored, strict=True):
        log_p = row[:-1][scored].float().log_softmax(-1)
        log_clean = clean_row[:-1][scored].float().log_softmax(-1)
        cross_entropy = -log_p.gather(1, ids[1:][scored][:, None]).sum(dtype=torch.float64)
        kl = (log_p.exp() * (log_p - log_clean)).sum(dtype=torch.float64)
        texts.append(torch.stack([cross_entropy, kl, scored.sum()]))
    return torch.stack(texts)


def recovered_compute(reconstruction: Tensor, ablated: Tensor, clean: Tensor, min_gap: float) -> Tensor:
    """Return (ablated - reconstruction) / (ablated - clean): 0 for the ablation, 1 for the clean model, not clamped.

    Args:
        reconstruction: loss of the model that reads the reconstruction, in nats per token.
        ablated: loss of the model whose activation is ablated.
        clean: loss of the unedited model.
        min_gap: least ablated - clean, in nats per token; below it the ratio, which would divide noise by noise, is
            nan.
    """
    gap = ablated - clean
    return torch.where(gap >= min_gap, (ablated - reconstruction) / gap, torch.nan)
