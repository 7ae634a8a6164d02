"""The images of the pocket CLIP model: drawn scenes and handwritten digits whose every attribute is known."""

import random
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from typing_extensions import override

from sae_lightning.checks import check_seed, check_whole
from sae_lightning.images import Images
from sae_lightning.pocket.captions import PROMPTS, caption

if TYPE_CHECKING:
    from PIL.Image import Image

N_DIGITS = 1797
"""Digits in scikit-learn's `load_digits` (Alpaydin and Kaynak 1998, the test part of the UCI set)."""

_MOST_SCENES = 2**31
_SCENE = ("shape", "size", "position", "count")
_VALUES = {
    "shape": ("circle", "square", "triangle", "star", "cross", "ring"),
    "colour": ("red", "yellow", "green", "blue", "purple", "pink"),
    "size": ("small", "large"),
    "position": ("left", "right", "top", "bottom", "centre"),
    "count": ("one", "two", "three"),
    "background": ("white", "black", "brown", "striped", "dotted"),
    "digit": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
}


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Return scans [1797, 8, 8] with values from 0 to 16, and which digit each is [1797]."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.images, data.target


class PocketImages(Images):
    """Scenes of coloured shapes, and handwritten digits, 64 by 64 pixels, as the pocket CLIP model was trained on.

    A scene shows one to three objects of one shape, colour and size, somewhere on a background; a digit has a colour
    and a background. Scenes differ in exact size, place, tilt and shade too. All attributes are drawn independently
    and uniformly, except which digits there are: those of scikit-learn's `load_digits`, each once.

    The pocket CLIP model saw scenes of the seeds from 1000 on, and digits whose number in `load_digits` is not a
    multiple of 10. So with a smaller seed it saw no scene, and with `heldout_every` 10, 20, 30, ... no held-out digit.

    Args:
        n_scenes: number of scenes, beside the 1797 digits.
        seed: what the scenes show, and colour and background of the digits, at least 0.
        heldout_every: one image in this many is held out, at least 2.
    """

    values = _VALUES
    prompts = PROMPTS

    def __init__(self, n_scenes: int = 20_000, seed: int = 0, heldout_every: int = 10) -> None:
        super().__init__(heldout_every)
        check_whole(0, _MOST_SCENES, n_scenes=n_scenes)
        check_seed(seed=seed)
        self.n_scenes, self.seed = n_scenes, seed
        # Digits come first, then scenes, each with a number of its own whatever `n_scenes` is.
        items = torch.arange(N_DIGITS + n_scenes)
        self._items = items.clone()
        generator = torch.Generator().manual_seed(seed)
        for split in ("train", "heldout"):  # digits and scenes are mixed, each within its part
            numbers = self.numbers(split)
            self._items[numbers] = numbers[torch.randperm(len(numbers), generator=generator)]
        self._labels = {name: self._draw(name)[self._items] for name in _VALUES}

    def _draw(self, attribute: str) -> Int64[Tensor, " n"]:
        """Draw the labels of the digits, then of the scenes."""
        if attribute == "digit":
            return torch.cat([torch.from_numpy(_digits()[1]).long(), torch.full((self.n_scenes,), -1)])
        # Each attribute has a generator of its own, so that it does not depend on the others.
        rng = np.random.default_rng([self.seed, list(_VALUES).index(attribute)])
        labels = torch.from_numpy(rng.integers(len(_VALUES[attribute]), size=N_DIGITS + self.n_scenes))
        if attribute in _SCENE:
            labels[:N_DIGITS] = -1
        return labels

    @override
    def __len__(self) -> int:
        return len(self._items)

    @override
    def image(self, number: int) -> "Image":
        from sae_lightning.pocket import drawing

        item, shown = int(self._items[number]), self.shown(number)
        rng = np.random.default_rng([self.seed, len(_VALUES), item])
        if "digit" in shown:
            mask = drawing.digit_mask(_digits()[0][item], rng)
        else:
            mask = drawing.scene_mask(shown["shape"], shown["count"], shown["size"], shown["position"], rng)
        return drawing.paint(shown["colour"], mask, drawing.background(shown["background"], rng), rng)

    @override
    def name(self, number: int) -> str:
        item = int(self._items[number])
        return f"digit {item}" if item < N_DIGITS else f"scene {item - N_DIGITS} of seed {self.seed}"

    @override
    def labels(self, attribute: str) -> Int64[Tensor, " n"]:
        return self._labels[attribute]

    def caption(self, number: int, turn: int = 0) -> str:
        """Draw one of many captions of an image, about some of what it shows; another turn draws another."""
        return caption(self.shown(number), random.Random(f"{self.seed} {int(self._items[number])} {turn}"))[0]
