"""`PreparedPictures`: the values of attributes of pictures as questions, and the activations that answers come from."""

from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sae_lightning.probing.features import Tokens
from sae_lightning.probing.problems import Problem, control, one_vs_rest

if TYPE_CHECKING:
    from sae_lightning.evaluators.labelled_pictures import LabelledPictures

_SEED = 42


class PreparedPictures:
    """Each value of each attribute against the other values of it, on the pictures that the attribute applies to.

    A picture is a document and a unit of its own. Train are training pictures, test held-out ones.

    Args:
        pictures: their attributes and the model that reads them.
        n_train: training pictures for each attribute.
        n_test: held-out pictures for each attribute.

    Raises:
        ValueError: if no value of an attribute is shown in both parts.
    """

    def __init__(self, pictures: "LabelledPictures", n_train: int, n_test: int) -> None:
        self.pictures = pictures
        numbers, sets = list[Tensor](), list[str]()
        for name, split, n in (("train", "train", n_train), ("test", "heldout", n_test)):
            for batch in pictures.batches(pictures.numbers(split, n)):  # without those that cannot be decoded
                numbers.append(batch.numbers)
                sets += [name] * len(batch.numbers)
        self.numbers = torch.cat(numbers)
        generator = np.random.default_rng(_SEED)
        self.problems: list[Problem] = []
        self.controls: list[Problem] = []
        units = [str(number) for number in self.numbers.tolist()]
        for column, name in enumerate(pictures.attributes):
            labels = pictures.labels[self.numbers, column].tolist()
            asked = [of if label >= 0 else "" for of, label in zip(sets, labels, strict=True)]
            problems = list(one_vs_rest([str(label) for label in labels], asked).values())
            if not problems:
                raise ValueError(
                    f"attributes: no value of {name} is shown by training and by held-out pictures; give more, or "
                    f"leave {name} out"
                )
            self.problems += problems
            self.controls += [control(problem, units, generator) for problem in problems]
        self.documents = np.arange(len(self.numbers))

    def capture(self) -> Tokens:
        """Activations of all pictures at the positions that count, each picture with the mean over them."""
        rows = [
            x[counted].cpu()
            for batch in self.pictures.batches(self.numbers)
            for x, counted in zip(*self.pictures.source.capture(batch), strict=True)
        ]
        return Tokens(torch.cat(rows), np.array([0, *accumulate(map(len, rows))]), "mean")
