"""Edits of activations at valid positions alone."""

from collections.abc import Callable
from typing import TypeAlias

from jaxtyping import Bool, Float
from torch import Tensor

Edit: TypeAlias = Callable[[Tensor], Tensor]
"""From activations [n, d_in] to what stands in their place, [n, d_in]."""


def replace_valid(
    activations: Float[Tensor, "batch seq d_in"], mask: Bool[Tensor, "batch seq"], edit: Edit
) -> Float[Tensor, "batch seq d_in"]:
    """Return activations with an edit applied at valid positions, where the mask is True; the others keep theirs."""
    edited = activations.clone()
    edited[mask] = edit(activations[mask]).to(edited)
    return edited
