"""Prompts that ask a language model for attributes of entities, in a part for training and one for testing."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Literal

Split = Literal["train", "test"]


@dataclass(frozen=True)
class EntityPrompt:
    """A text that ends right before the value of an attribute.

    Args:
        text: names the entity once.
        entity: whose attribute is asked for.
        entity_end: offset in the text of the first character after the entity.
        attribute: which of its attributes.
        answer: what completes the text, with the space before it where there is one.

    Raises:
        ValueError: if the entity does not stand where it is said to stand, or the answer is empty.
    """

    text: str
    entity: str
    entity_end: int
    attribute: str
    answer: str

    def __post_init__(self) -> None:
        if not self.entity or not self.text[: self.entity_end].endswith(self.entity):
            raise ValueError(
                f"the entity {self.entity!r} does not end at character {self.entity_end} of the prompt {self.text!r}"
            )
        if not self.answer.strip():
            raise ValueError(f"the prompt {self.text!r} has no answer")


class EntityPrompts(ABC):
    """Where prompts come from. Training and test share no entity, and where it can be no wording."""

    @abstractmethod
    def prompts(self, split: Split) -> Sequence[EntityPrompt]:
        """Return all prompts of a part, of every attribute, in the same order each time."""

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={getattr(self, name)!r}" for name in signature(type(self)).parameters)
        return f"{type(self).__name__}({arguments})"
