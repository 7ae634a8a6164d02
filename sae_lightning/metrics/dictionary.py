"""Metrics of decoder directions alone: how far they moved, and which true features they contain.

    drift            cos(W_dec[j], W_dec_start[j])
    best cosine      max_j cos(f_i, W_dec[j])                  (Korznikov et al. 2026, arXiv 2602.14111, eq 6)
    matched cosine   cos(f_i, W_dec[pi(i)]), pi one-to-one     (Song et al. 2025, arXiv 2505.20254)
    coherence        max_{i != j} |cos(W_dec[i], W_dec[j])|
    uniqueness       |{argmax_i cos(f_i, W_dec[j]) : j}| / d_sae     (SynthSAEBench 2026, arXiv 2602.14687)

Cosines are signed, since a latent that is never negative cannot represent the opposite of its direction; the option
`absolute` is for comparing with work that ignores the sign. A zero row has cosine 0 to everything. Chance is far from 0
(see each function): compare with a random dictionary of the same size.

Every rank holds all parameters, so nothing is accumulated or reduced: these are functions, not torchmetrics classes.
Products are computed outside autocast, since half precision moves cosines across a threshold.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import normalize

_BLOCK_ENTRIES = 2**24
"""Most entries of a block of cosines: 64 MiB in float32."""
_LEAST_NORM = 1e-12
"""What a row is divided by at least, as in `normalize`."""


def cosine_to_start(
    W_dec: Float[Tensor, "d_sae d_in"], W_dec_start: Float[Tensor, "d_sae d_in"]
) -> Float[Tensor, " d_sae"]:
    """Return the cosine of each decoder direction to its start, in [-1, 1].

    1 for a direction that did not move, 0 for a zero row.

    >>> cosine_to_start(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.eye(2).flip(1) + torch.eye(2))
    tensor([0.7071, 0.7071], dtype=torch.float64)
    """
    n_rows = max(1, _BLOCK_ENTRIES // (4 * W_dec.shape[1]))  # a few copies of a block in float64
    blocks = zip(W_dec.split(n_rows), W_dec_start.split(n_rows), strict=True)
    return torch.cat([(_unit(now) * _unit(start)).sum(1) for now, start in blocks])


def _unit(rows: Tensor) -> Tensor:
    return normalize(rows.double(), dim=1)


def best_cosine(
    features: Float[Tensor, "n_features d_in"], W_dec: Float[Tensor, "d_sae d_in"], absolute: bool = False
) -> Float[Tensor, " n_features"]:
    """Return for each feature the largest cosine to any decoder direction, in [-1, 1], higher is better.

    Not one-to-one: a direction may be the best match of several features. Chance for 3200 random directions in 100
    dimensions: 0.347 on average, absolute 0.364. Korznikov et al. 2026 (arXiv 2602.14111), eq 6.

    >>> best_cosine(torch.eye(2), torch.tensor([[2.0, 0.0], [0.0, -3.0]]))
    tensor([1., 0.])
    >>> best_cosine(torch.eye(2), torch.tensor([[2.0, 0.0], [0.0, -3.0]]), absolute=True)
    tensor([1., 1.])
    """
    return _by_blocks(lambda cosines: (cosines.abs() if absolute else cosines).amax(1), features, W_dec)


def best_match(
    rows: Float[Tensor, "n_rows d_in"], candidates: Float[Tensor, "n_candidates d_in"]
) -> Int64[Tensor, " n_rows"]:
    """Return for each row the number of the candidate with the largest signed cosine to it, in [0, n_candidates).

    >>> best_match(torch.eye(2), torch.tensor([[0.0, 1.0], [2.0, 1.0]]))
    tensor([1, 0])
    """
    return _by_blocks(lambda cosines: cosines.argmax(1), rows, candidates)


def matched_cosine(
    features: Float[Tensor, "n_features d_in"], W_dec: Float[Tensor, "d_sae d_in"], absolute: bool = False
) -> Float[Tensor, " pairs"]:
    """Return the cosines of the one-to-one matching of features and directions with the largest sum; higher is better.

    There are min(n_features, d_sae) pairs, in order of features; each value is in [-1, 1]. With `absolute` their mean
    is the GT-MCC of Song et al. 2025 (arXiv 2505.20254). Chance for 3200 features and 3200 random directions in 100
    dimensions: 0.337 on average, absolute 0.354. The time grows with the cube of the size, and the whole
    [n_features, d_sae] matrix is held on the CPU: 0.7 s for 3200, two minutes and 4 GiB for 16384.

    >>> matched_cosine(torch.eye(2), torch.tensor([[1.0, 0.0], [4.0, 3.0], [-1.0, 0.0]]))
    tensor([1.0000, 0.6000])
    """
    costs = _by_blocks(lambda cosines: -(cosines.abs() if absolute else cosines).cpu(), features, W_dec)
    pairs = linear_sum_assignment(costs.numpy())
    return -costs[pairs].to(W_dec.device)


def uniqueness(features: Float[Tensor, "n_features d_in"], W_dec: Float[Tensor, "d_sae d_in"]) -> Float[Tensor, ""]:
    """Return the number of distinct features that are the best match of some latent, over d_sae; higher is better.

    In (0, 1], and at most n_features / d_sae. Chance, where latents choose independently and evenly:
    1 - exp(-1) = 0.632 for d_sae = n_features. So a low value means that latents duplicate each other, and a high one
    does not mean that they are correct. SynthSAEBench 2026 (arXiv 2602.14687).

    >>> uniqueness(torch.eye(2), torch.tensor([[1.0, 0.0], [3.0, 1.0], [0.0, 1.0], [1.0, 0.1]]))
    tensor(0.5000, dtype=torch.float64)
    """
    return (torch.bincount(best_match(W_dec, features)) > 0).sum().double() / len(W_dec)


def coherence(W_dec: Float[Tensor, "d_sae d_in"]) -> float:
    """Return the largest absolute cosine of two different decoder directions, in [0, 1], lower is better.

    There must be two directions or more. Chance for 2048 random directions in 256 dimensions: about 0.33.

    >>> coherence(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 4.0]]))
    0.8...
    """
    # The first of a row's two largest cosines is that to itself.
    second = _by_blocks(lambda cosines: cosines.abs().topk(2, 1).values[:, 1], W_dec, W_dec)
    return float(second.max())


def nearest_other(W_dec: Float[Tensor, "d_sae d_in"]) -> Float[Tensor, " d_sae"]:
    """Return for each of two or more directions the largest signed cosine to another, in [-1, 1]; 1 for a duplicate.

    Chance for 2048 random directions in 256 dimensions: 0.21 on average.

    >>> nearest_other(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 4.0]]))
    tensor([0.0000, 0.8000, 0.8000])
    """
    return _by_blocks(lambda cosines: cosines.topk(2, 1).values[:, 1], W_dec, W_dec)  # the first is that to itself


def recovered_fraction(best: Float[Tensor, " n_features"], threshold: float) -> Float[Tensor, ""]:
    """Return the share of features whose best cosine is strictly above the threshold, in [0, 1], higher is better.

    >>> recovered_fraction(torch.tensor([0.8, 0.9]), threshold=0.8)
    tensor(0.5000, dtype=torch.float64)
    """
    return (best > threshold).double().mean()


def evenly_spaced_rows(x: Float[Tensor, "n d"], n: int) -> Float[Tensor, "m d"]:
    """Return n of the rows, the first and the last among them; all where there are no more.

    >>> evenly_spaced_rows(torch.arange(10)[:, None] / 1, 4).flatten()
    tensor([0., 3., 6., 9.])
    """
    return x[torch.linspace(0, len(x) - 1, min(n, len(x))).round().long()]


def _by_blocks(reduce: Callable[[Tensor], Tensor], rows: Tensor, candidates: Tensor) -> Tensor:
    """Return the concatenated results of `reduce` for the cosines [block, n_candidates] of each block of rows.

    Candidates are not normalised, which would take another matrix of their size: their products are divided by norms.
    """
    with torch.autocast(rows.device.type, enabled=False):
        candidates = candidates.float()
        norms = torch.linalg.vector_norm(candidates, dim=1).clamp_min(_LEAST_NORM)
        blocks = rows.split(max(1, _BLOCK_ENTRIES // len(candidates)))
        return torch.cat([reduce((normalize(block.float(), dim=1) @ candidates.T).div_(norms)) for block in blocks])
