"""`ActivationSource`: a model and a place in it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor

from sae_lightning.provenance import arguments_of

Self = TypeVar("Self", bound="ActivationSource")  # beartype refuses `typing.Self` on single methods


class NonFiniteError(ValueError):
    """Activations that are nan or infinite.

    Args:
        message: which activations, and what to do.
        position: indices of the first one along the dimensions of the mask.
    """

    def __init__(self, message: str, position: tuple[int, ...]) -> None:
        super().__init__(message)
        self.position = position


class ActivationSource(ABC):
    """A model and a place in it, the hook.

    Whatever intervenes on a model is written against `replace`, so a new source gets every evaluator. Attributes that
    only some sources have exist here too, with a default for all others.

    Attributes:
        d_in: width of an activation, known once the source is made.
        widths: width of each part by name where an activation has parts side by side, which are hooks or null
            versions; empty otherwise.
        is_language_model: whether there is a model that reads a `TokenBatch` of any text.
        vocabulary: number of tokens of a language model.
        embeds_images: whether the model is a CLIP model, which has `embed_images` and `embed_tokens`.
        reads_images: whether the hook is in the image tower of a CLIP model, so that inputs are an `ImageBatch`.
        features: true features, unit rows [n_features, d_in]; None where they are unknown.
        firing_probabilities: how often each feature fires, [n_features]; None where that is unknown.
    """

    d_in: int
    widths: Mapping[str, int] = {}
    is_language_model: bool = False
    vocabulary: int = 1
    embeds_images: bool = False
    reads_images: bool = False
    features: Tensor | None = None
    firing_probabilities: Tensor | None = None

    @property
    def no_next_token(self) -> str:
        """Why the outputs of the model are no logits of the next token, [batch, seq, vocabulary]; empty where they are.

        `check_next_token` refuses a question that needs them.
        """
        return "there is no language model"

    @property
    def device(self) -> torch.device:
        """Where the model is; the CPU for a source without a model."""
        return torch.device("cpu")

    def to(self: Self, device: torch.device | str) -> Self:
        """Move the model, if there is one, and return the source."""
        return self

    def valid(self, inputs: Any, activations: Tensor, part: str = "") -> Tensor:
        """Return the mask [...] of valid positions, as `capture` does, of inputs whose activations are known.

        Args:
            inputs: what the model reads; the activations themselves where there is no model.
            activations: [..., d] at the hook.
            part: name of the hook or null, where there are several.
        """
        if isinstance(inputs, Tensor):
            return torch.ones(activations.shape[:-1], dtype=torch.bool, device=activations.device)
        mask: Tensor = inputs.mask
        return mask.to(activations.device)

    def describe(self, part: str = "") -> dict[str, Any]:
        """Return what decides the activations of a part, as JSON has it; a file of an SAE says so what it is of."""
        return {"class": type(self).__name__, **arguments_of(self)}

    @abstractmethod
    def capture(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """Return the activations [..., d_in] at the hook and a bool mask [...] of valid positions.

        Nothing above the hook is run.
        """

    def same_inputs(self) -> AbstractContextManager[None]:
        """Let calls of `replace` within be for inputs that come again: what edits do not change is computed once."""
        return nullcontext()

    @abstractmethod
    def replace(self, inputs: Any, edit: Callable[[Tensor], Tensor]) -> Any:
        """Return the outputs of the whole model when the activations at the hook are `edit(activations)`.

        A source with several hooks takes the name of one as a third argument. Of a `TokenBatch` that names `positions`
        it may return the outputs at these alone.

        Args:
            inputs: what the model reads.
            edit: returns a tensor of the same shape.
        """
