"""What can be said of decoder directions alone: how far they moved, and which true features they contain.

    drift      cos(W_dec[j], W_dec_start[j])
    recovery   max_j cos(f_i, W_dec[j]), signed                (Korznikov et al. 2026, arXiv 2602.14111, eq 6)

Every rank holds all parameters, so there is nothing to accumulate or reduce: functions, not torchmetrics classes.
Products are taken outside autocast, since half precision moves a cosine across a threshold.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

# A block of cosines has at most this many entries: 64 MiB in float32.
_BLOCK_ENTRIES = 2**24


def cosine_to_start(
    W_dec: Float[Tensor, "d_sae d_in"], W_dec_start: Float[Tensor, "d_sae d_in"]
) -> Float[Tensor, " d_sae"]:
    """Cosine of each decoder direction to its start, in [-1, 1]; 1 for a direction that did not move, 0 for a zero row.

    >>> cosine_to_start(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.eye(2).flip(1) + torch.eye(2))
    tensor([0.7071, 0.7071], dtype=torch.float64)
    """
    return (normalize(W_dec.double(), dim=1) * normalize(W_dec_start.double(), dim=1)).sum(1)


def best_cosine(
    features: Float[Tensor, "n_features d_in"], W_dec: Float[Tensor, "d_sae d_in"]
) -> Float[Tensor, " n_features"]:
    """For each feature the largest signed cosine to any decoder direction, in [-1, 1], higher is better.

    Signed, since a latent that is never negative cannot stand for the opposite of its direction; the matching is not
    one-to-one. Chance is far from 0: 0.347 on average for 3200 random directions in 100 dimensions, so compare with a
    random dictionary. A zero row has cosine 0 to everything.

    >>> best_cosine(torch.eye(2), torch.tensor([[2.0, 0.0], [0.0, -3.0]]))
    tensor([1., 0.])
    """
    with torch.autocast(W_dec.device.type, enabled=False):
        directions = normalize(W_dec.float(), dim=1).T
        blocks = normalize(features.float(), dim=1).split(max(1, _BLOCK_ENTRIES // W_dec.shape[0]))
        return torch.cat([(block @ directions).amax(1) for block in blocks])


def recovered_fraction(best: Float[Tensor, " n_features"], threshold: float) -> Float[Tensor, ""]:
    """Share of features whose best cosine is strictly above the threshold, in [0, 1], higher is better.

    >>> recovered_fraction(torch.tensor([0.8, 0.9]), threshold=0.8)
    tensor(0.5000, dtype=torch.float64)
    """
    return (best > threshold).double().mean()
