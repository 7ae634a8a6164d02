"""The random dictionary by which chance is measured."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

# Not a seed that somebody gives to the data: features and dictionary would be the same rows of one random stream.
_SEED = 0x5AE_C4A7CE


def isotropic_directions(n: int, d_in: int, generator: torch.Generator) -> Float[Tensor, "n d_in"]:
    """Draw unit rows without preferred direction."""
    return normalize(torch.randn(n, d_in, generator=generator), dim=1)


def random_dictionary(n: int, d_in: int) -> Float[Tensor, "n d_in"]:
    """Return the isotropic unit rows by which chance is measured, the same each time."""
    return isotropic_directions(n, d_in, torch.Generator().manual_seed(_SEED))
