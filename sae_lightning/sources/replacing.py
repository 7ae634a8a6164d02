"""Edits of activations at valid positions alone."""

from collections.abc import Callable
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


def answered_outputs(
    source: Any, inputs: Any, answer: Edit, captured: tuple[Tensor, Tensor], columns: slice, target: str
) -> Tensor:
    """Return the outputs of the model with something else at one hook, made from the activations at another.

    Positions that are massive at either hook keep what they have.

    Args:
        source: an ActivationSource with several hooks.
        inputs: what the model reads, with a mask.
        answer: from the activations that are read [n, d_in] to what stands at the target [n, d_out].
        captured: activations [..., d] at all hooks of these inputs and the mask of valid positions, from `capture`.
        columns: those of the hook that is read.
        target: name of the hook at which the answer stands, after that which is read.
    """
    activations, mask = captured

    def in_place(at_target: Tensor) -> Tensor:
        return replace_valid(at_target, mask, lambda _: answer(activations[..., columns][mask]))

    return source.replace(inputs, in_place, target)


def edited_outputs(source: Any, inputs: Any, edit: Edit, part: str) -> Tensor:
    """Return the outputs of the model with a part of the activations edited at valid positions.

    Massive activations that the source leaves out are not valid: the edit does not see them, and they stay.

    Args:
        source: an ActivationSource.
        inputs: what the model reads, with a mask.
        edit: of the activations of the part, [n, d_in] -> [n, d_in].
        part: name of the hook or null; empty where there is one hook.
    """

    def in_place(activations: Tensor) -> Tensor:
        return replace_valid(activations, source.valid(inputs, activations, part), edit)

    return source.replace(inputs, in_place, part) if part else source.replace(inputs, in_place)
