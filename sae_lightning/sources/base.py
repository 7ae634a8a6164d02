"""`ActivationSource`: a model and a place in it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor


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

    Whatever intervenes on a model is written against `replace`, so a new source gets every evaluator.

    Attributes:
        d_in: width of an activation, known once the source is made.
        predicts_tokens: whether the outputs of the model are logits of the next token, [batch, seq, vocabulary].
        embeds_images: whether the model is a CLIP model, which embeds images and captions side by side.
        reads_images: whether the hook is in the image tower of such a model.
        features: [n_features, d_in] unit rows, the true features of synthetic data; None where none are known.
    """

    d_in: int
    predicts_tokens: bool = False
    embeds_images: bool = False
    reads_images: bool = False
    features: Tensor | None = None

    @abstractmethod
    def capture(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """Return the activations [..., d_in] at the hook and a bool mask [...] of valid positions.

        Nothing above the hook is run.
        """

    @abstractmethod
    def replace(self, inputs: Any, edit: Callable[[Tensor], Tensor]) -> Any:
        """Return the outputs of the whole model when the activations at the hook are `edit(activations)`.

        A source with several hooks takes the name of one as a third argument.

        Args:
            inputs: what the model reads.
            edit: returns a tensor of the same shape.
        """
