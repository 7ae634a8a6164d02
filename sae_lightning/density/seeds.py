"""Do SAEs from different seeds find the same latents? Cosines of their decoder directions, compared with chance.

Directions that have a mean, or vary more along some axes, agree more by chance than isotropic ones.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.density.activations import gaussian_like
from sae_lightning.metrics.density import subspace_overlap
from sae_lightning.metrics.dictionary import best_cosine, matched_cosine

SHARED = 0.7
"""A latent is shared above this cosine to its match (Paulo and Belrose 2025, arXiv 2501.16615)."""
SUBSPACE = 8
"""Number of the strongest directions of a dictionary whose spans are compared."""
_LARGEST_MATCHING = 16384  # two minutes, and hours for a few times as many


def agreement(dictionaries: Sequence[Float[Tensor, "d_sae d_in"]]) -> dict[str, Any]:
    """Return means over the pairs of two or more dictionaries; cosines are signed.

    - best_cosine: of a direction to the nearest one of the other dictionary.
    - matched_cosine, shared: mean of the one-to-one matching with the largest sum, and the share of its pairs above
      `SHARED`; left out if there are more than 16384 directions.
    - subspace_overlap: of the spans of the strongest directions, r / d_in by chance.
    - matched: the cosines of the first pair, for a figure.
    """
    by_pair: dict[str, list[float]] = {}
    matched = None
    for one, other in combinations(dictionaries, 2):
        pair = {
            "best_cosine": (best_cosine(one, other).mean() + best_cosine(other, one).mean()) / 2,
            "subspace_overlap": subspace_overlap(one, other, min(SUBSPACE, one.shape[1])),
        }
        if len(one) <= _LARGEST_MATCHING:
            cosines = matched_cosine(one, other)
            matched = cosines if matched is None else matched
            pair |= {"matched_cosine": cosines.mean(), "shared": (cosines > SHARED).double().mean()}
        for name, value in pair.items():
            by_pair.setdefault(name, []).append(float(value))
    means: dict[str, Any] = {name: sum(values) / len(values) for name, values in by_pair.items()}
    return means | ({} if matched is None else {"matched": matched.sort(descending=True).values.tolist()})


def chance(W_dec: Sequence[Float[Tensor, "d_sae d_in"]], generator: torch.Generator) -> dict[str, Any]:
    """Return the agreement of random directions with the mean and the covariance of two dictionaries."""
    return agreement([gaussian_like(dictionary.float(), generator) for dictionary in W_dec[:2]])
