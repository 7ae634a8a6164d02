"""What a judge is: it explains from examples when a latent fires, and predicts firing on other texts from that."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from inspect import signature

from sae_lightning.interpretation.excerpts import Example, Excerpt
from sae_lightning.interpretation.questions import Question


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
        """Raises `ValueError` before work starts if the judge could not answer."""

    def begin(self, questions: Iterable[Question]) -> bool:
        """Told once what is about to be asked; False if nothing shall be asked."""
        return True

    @abstractmethod
    def explain(self, shown: Sequence[Example], contrast: Sequence[Excerpt]) -> Explanation:
        """What the latent that fires on `shown`, and not on `contrast`, stands for."""

    @abstractmethod
    def judge(self, explanation: Explanation, excerpts: Sequence[Excerpt]) -> Sequence[bool | None]:
        """Whether the latent fires anywhere in each excerpt; None for an answer that could not be understood."""

    def __repr__(self) -> str:  # part of the evaluator's key in checkpoints: no addresses, no secrets
        arguments = (f"{name}={getattr(self, name)!r}" for name in signature(type(self)).parameters)
        return f"{type(self).__name__}({', '.join(arguments)})"
