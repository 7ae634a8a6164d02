"""`PreparedImages`: the values of attributes of images as problems for probes, and the activations that probes read."""

from collections.abc import Hashable, MutableMapping, Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from sae_lightning.datamodules.labelled_images import LabelledImages
from sae_lightning.probing.features import Tokens
from sae_lightning.probing.problems import Problem, control, one_vs_rest

_SEED = 42


class PreparedImages:
    """Each value of each attribute against the other values of it, on the images that the attribute applies to.

    An image is a document and a unit of its own. Train are training images, test held-out ones.

    Args:
        images: their attributes and the model that reads them.
        n_train: training images for each attribute.
        n_test: held-out images for each attribute.
        draw: which images are drawn, and with it which control labels.

    Raises:
        ValueError: if no value of an attribute is shown in both parts.
    """

    def __init__(self, images: LabelledImages, n_train: int, n_test: int, draw: int = 0) -> None:
        self.images = images
        numbers, sets = list[Tensor](), list[str]()
        for name, split, n in (("train", "train", n_train), ("test", "heldout", n_test)):
            for batch in images.batches(images.numbers(split, n, draw)):  # without those that cannot be decoded
                numbers.append(batch.numbers)
                sets += [name] * len(batch.numbers)
        self.numbers = torch.cat(numbers)
        generator = np.random.default_rng([_SEED, draw] if draw else _SEED)
        self.problems: list[Problem] = []
        self.controls: list[Problem] = []
        units = [str(number) for number in self.numbers.tolist()]
        for column, name in enumerate(images.attributes):
            labels = images.labels[self.numbers, column].tolist()
            # An image to which the attribute does not apply is in no set.
            sets_of_problem = [set_name if label >= 0 else "" for set_name, label in zip(sets, labels, strict=True)]
            problems = list(one_vs_rest([str(label) for label in labels], sets_of_problem).values())
            if not problems:
                raise ValueError(
                    f"attributes: no value of {name} is shown by training and by held-out images; give more, or "
                    f"leave {name} out"
                )
            self.problems += problems
            self.controls += [control(problem, units, generator) for problem in problems]
        self.documents: Sequence[Hashable] = self.numbers.tolist()

    def capture(self, known: MutableMapping[Hashable, Tensor] | None = None) -> Tokens:
        """Capture the activations of all images at valid positions, which are pooled to their mean for each image.

        Args:
            known: activations of images that other draws have read, by number; the others are added.
        """
        known = {} if known is None else known
        unread = torch.tensor([number for number in self.documents if number not in known], dtype=torch.int64)
        for batch in self.images.batches(unread):
            captured = zip(batch.numbers.tolist(), *self.images.source.capture(batch), strict=True)
            known.update({number: x[mask].cpu() for number, x, mask in captured})
        rows = [known[number] for number in self.documents]
        return Tokens(torch.cat(rows), np.array([0, *accumulate(map(len, rows))]), "mean")
