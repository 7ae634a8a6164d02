"""The random dictionary by which chance is measured."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

# Not a seed that somebody gives to the data: features and dictionary would be the same rows of one random stream.
_SEED = 0x5AE_C4A7CE

_ENOUGH = 1024  # directions over which a mean cosine is known to 0.01


def isotropic_directions(n: int, d_in: int, generator: torch.Generator) -> Float[Tensor, "n d_in"]:
    """Draw unit rows without preferred direction."""
    return normalize(torch.randn(n, d_in, generator=generator), dim=1)


def random_dictionary(n: int, d_in: int) -> Float[Tensor, "n d_in"]:
    """Return the isotropic unit rows by which chance is measured, the same each time."""
    return isotropic_directions(n, d_in, torch.Generator().manual_seed(_SEED))


def random_dictionaries(n: int, d_in: int) -> Iterator[Float[Tensor, "n d_in"]]:
    """Yield random dictionaries whose mean score is chance: one, or of few rows so many that they have 1024 in all.

    The first is `random_dictionary`.
    """
    yield random_dictionary(n, d_in)
    for draw in range(1, n_draws(n)):
        yield isotropic_directions(n, d_in, torch.Generator().manual_seed(_SEED + draw))


def n_draws(n: int) -> int:
    """Return how many dictionaries of n rows are drawn where chance is measured.

    >>> n_draws(32), n_draws(2048)
    (32, 1)
    """
    return -(-_ENOUGH // max(n, 1))
