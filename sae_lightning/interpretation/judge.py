"""`Judge`: explains from examples when a latent fires, and predicts from that on which other texts it does."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from inspect import signature

from sae_lightning.interpretation.excerpts import Example, Excerpt
from sae_lightning.interpretation.tasks import InterpretationTask


@dataclass(frozen=True)
class Explanation:
    """When a latent fires.

    Args:
        text: in words.
    """

    text: str


class Judge(ABC):
    """Explains a latent and predicts with its explanation; keeps each argument under the argument's name."""

    def check(self) -> None:  # noqa: B027
        """Raise `ValueError` before work starts if the judge could not answer."""

    def begin(self, tasks: Iterable[InterpretationTask]) -> bool:
        """Learn which tasks are to come; return False if none shall be done."""
        return True

    @abstractmethod
    def explain(self, shown: Sequence[Example], contrast: Sequence[Excerpt]) -> Explanation:
        """Explain a latent that fires on `shown`, and not on `contrast`."""

    @abstractmethod
    def judge(self, explanation: Explanation, excerpts: Sequence[Excerpt]) -> Sequence[bool | None]:
        """Predict whether the latent fires anywhere in each excerpt; None for an answer that is not understood."""

    def __repr__(self) -> str:  # part of the evaluator's key in checkpoints: no addresses, no secrets
        arguments = (f"{name}={getattr(self, name)!r}" for name in signature(type(self)).parameters)
        return f"{type(self).__name__}({', '.join(arguments)})"
