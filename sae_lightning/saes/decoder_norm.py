"""Decoder directions at unit norm, without which penalties can be evaded and norms drift.

Each step removes from the gradient what would only change norms, and normalises afterwards.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

_CPU_NUMBERS, _DEVICE_NUMBERS = 2**17, 2**25
"""Numbers in a part of a matrix: half a megabyte of float32, and 134 MB."""


def refuse_other_norms(W_dec: Float[Tensor, "d_sae d_in"]) -> None:
    """Check that all directions have unit norm.

    Raises:
        ValueError: if one has not.
    """
    norms = torch.linalg.vector_norm(W_dec.detach(), dim=1)
    if not (norms - 1).abs().max() < 1e-3:
        raise ValueError(
            f"decoder directions have norms from {norms.min():.4g} to {norms.max():.4g}, expected 1: in a training "
            "loop of your own call sae.step(optimizer) in place of optimizer.step()"
        )


@torch.no_grad()
def remove_radial_(grad: Float[Tensor, "d_sae d_in"], W_dec: Float[Tensor, "d_sae d_in"]) -> None:
    """Remove from the gradient of unit rows, in place, what would only change their norms."""
    for rows, grad_of_rows in zip(_in_cache(W_dec), _in_cache(grad), strict=True):
        grad_of_rows.addcmul_(torch.linalg.vecdot(grad_of_rows, rows)[:, None], rows, value=-1)


@torch.no_grad()
def normalise_(W_dec: Float[Tensor, "d_sae d_in"]) -> None:
    """Give each row unit norm, in place."""
    for rows in _in_cache(W_dec):
        rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min(1e-12))


def _in_cache(matrix: Tensor) -> Sequence[Tensor]:
    """Split the rows: into parts that fit a CPU's cache, where a second pass over a part finds it.

    On other devices temporaries of a pass (`vecdot` makes a copy of what it multiplies) are of a part.
    """
    n = _CPU_NUMBERS if matrix.device.type == "cpu" else _DEVICE_NUMBERS
    return matrix.split(max(1, n // matrix.shape[1]))
