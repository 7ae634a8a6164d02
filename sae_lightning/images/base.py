"""`Images`: numbered images with labels, in a training part and a held-out part."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int64
from torch import Tensor

from sae_lightning.checks import check_whole

if TYPE_CHECKING:
    from PIL.Image import Image


class Images(ABC):
    """Images by number, of which number 0 and every n-th after it are held out.

    A subclass keeps each argument under the argument's name.

    Args:
        heldout_every: one image in this many is held out, at least 2.

    Attributes:
        values: for each attribute, such as colour, the names of its values; empty where images have no labels.
        prompts: for each attribute the captions by which a model is asked for it, with {} in place of the value, such
            as "a photo of a {}"; an answer is the mean over them.
    """

    values: Mapping[str, Sequence[str]]
    prompts: Mapping[str, Sequence[str]]

    def __init__(self, heldout_every: int) -> None:
        check_whole(2, heldout_every=heldout_every, hint="for example 20 for 5 percent")
        self.heldout_every = heldout_every

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def image(self, number: int) -> "Image":
        """Decode an image, of any mode and size.

        Raises:
            OSError: if it cannot be decoded.
        """

    @abstractmethod
    def name(self, number: int) -> str:
        """Return what messages call the image, such as the path of its file."""

    @abstractmethod
    def labels(self, attribute: str) -> Int64[Tensor, " n"]:
        """Return the index of each image's value in `values[attribute]`, -1 where the attribute does not apply."""

    def shown(self, number: int) -> dict[str, str]:
        """Return the value of each attribute that applies to an image."""
        labels = {attribute: int(self.labels(attribute)[number]) for attribute in self.values}
        return {attribute: self.values[attribute][label] for attribute, label in labels.items() if label >= 0}

    def numbers(self, split: str) -> Int64[Tensor, " n"]:
        """Return the numbers of the images of a part, `train` or `heldout`, in ascending order."""
        numbers = torch.arange(len(self))
        heldout = numbers % self.heldout_every == 0
        return numbers[heldout if split == "heldout" else ~heldout]
