"""Decoder directions at unit norm, without which penalties can be evaded and norms drift.

Each step removes from the gradient what would only change norms, and normalises afterwards.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


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
    """Split the rows, on a CPU into parts that fit the cache, where a second pass over a part finds it."""
    return matrix.split(max(1, 2**17 // matrix.shape[1])) if matrix.device.type == "cpu" else [matrix]
