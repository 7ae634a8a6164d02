"""Edits of activations at valid positions alone."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

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


def edited_outputs(source: Any, inputs: Any, edit: Edit, part: str) -> Tensor:
    """Return the outputs of the model with a part of the activations edited at valid positions.

    Args:
        source: an ActivationSource.
        inputs: what the model reads, with a mask.
        edit: of the activations of the part, [n, d_in] -> [n, d_in].
        part: name of the hook or null; empty where there is one hook.
    """
    in_place = partial(replace_valid, mask=inputs.mask, edit=edit)
    return source.replace(inputs, in_place, part) if part else source.replace(inputs, in_place)
