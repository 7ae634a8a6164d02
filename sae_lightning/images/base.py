"""`Images`: numbered pictures with labels, in a training part and a held-out part."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int64
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image


class Images(ABC):
    """Pictures by number, of which every n-th is held out, beginning with number 0.

    A subclass keeps each argument under the argument's name.

    Args:
        heldout_every: one picture in this many is held out, at least 2.

    Attributes:
        values: for each attribute, such as colour, the names of its values; empty where nothing is known of the
            pictures.
        prompts: for each attribute the captions by which a model is asked for it, with {} in the place of the value,
            such as "a photo of a {}"; an answer is the mean over them.
    """

    values: Mapping[str, Sequence[str]]
    prompts: Mapping[str, Sequence[str]]

    def __init__(self, heldout_every: int) -> None:
        if heldout_every < 2:
            raise ValueError(f"heldout_every={heldout_every}: expected at least 2, for example 20 for 5 percent")
        self.heldout_every = heldout_every

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def image(self, number: int) -> "Image":
        """One picture, in any mode and size.

        Raises:
            OSError: if it cannot be decoded.
        """

    @abstractmethod
    def name(self, number: int) -> str:
        """What a message calls the picture, such as the path of its file."""

    @abstractmethod
    def labels(self, attribute: str) -> Int64[Tensor, " n"]:
        """For each picture the index in `values[attribute]` of what it shows, -1 where the attribute does not apply."""

    def shown(self, number: int) -> dict[str, str]:
        """The value of each attribute that applies to a picture."""
        labels = {attribute: int(self.labels(attribute)[number]) for attribute in self.values}
        return {attribute: self.values[attribute][label] for attribute, label in labels.items() if label >= 0}

    def numbers(self, split: str) -> Int64[Tensor, " n"]:
        """Numbers of the pictures of a part, `train` or `heldout`, in their order."""
        everything = torch.arange(len(self))
        heldout = everything % self.heldout_every == 0
        return everything[heldout if split == "heldout" else ~heldout]
