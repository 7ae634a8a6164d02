"""A random rotation of a space, from the uniform distribution."""

import torch
from jaxtyping import Float
from torch import Tensor


def random_rotation(d: int, generator: torch.Generator) -> Float[Tensor, "d d"]:
    """Draw a rotation or reflection, uniformly from both (Mezzadri 2007, arXiv math-ph/0609050).

    Args:
        d: dimensions of the space.
        generator: on the CPU; the matrix is drawn in float64 and rounded.

    >>> matrix = random_rotation(3, torch.Generator().manual_seed(0))
    >>> torch.allclose(matrix @ matrix.T, torch.eye(3), atol=1e-6)
    True
    """
    q, r = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))
    return (q * r.diagonal().sign()).float()  # without the signs the QR decomposition would favour some rotations
