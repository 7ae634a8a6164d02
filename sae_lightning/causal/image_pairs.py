"""Pairs of images of which a CLIP model knows the attributes, and what it answers when an image is edited.

An image takes the place of an entity, a question about one of its attributes that of a prompt: see `draw_pairs`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_lightning.causal.pairs import draw_pairs
from sae_lightning.causal.prompts import EntityPrompt
from sae_lightning.causal.swaps import Swaps
from sae_lightning.datamodules.labelled_images import LabelledImages
from sae_lightning.distributed import all_gather_object
from sae_lightning.sources import ImageBatch

_LEAST_KNOWN = 16


@dataclass(frozen=True)
class ImageQuestion:
    """Has the image this value of the attribute?

    Args:
        number: of the image.
        attribute: index of the attribute.
        label: index of the value.
    """

    number: int
    attribute: int
    label: int


@dataclass(frozen=True)
class KnownImages:
    """Images about which a model answers correctly, and pairs of them.

    Args:
        numbers: [n] of the images.
        swaps: by attribute; image i has the activations i * positions to (i + 1) * positions - 1.
    """

    numbers: Int64[Tensor, " n"]
    swaps: Mapping[str, Swaps]


@torch.no_grad()
def find_known_images(
    images: LabelledImages, split: str, n_images: int, n_pairs: int, seed: int, draw: int = 0
) -> KnownImages:
    """Ask the model about images, and pair those that it answers correctly about; the same on every rank.

    Args:
        images: which images and which attributes.
        split: `train` or `heldout`.
        n_images: images for each attribute.
        n_pairs: of each kind, for each attribute.
        seed: of the pairs.
        draw: which images.

    Raises:
        ValueError: if there are fewer than two attributes, or the model knows too little of one.
    """
    names = images.attributes
    if len(names) < 2:
        raise ValueError(f"attributes={names}: isolation needs two attributes or more")
    numbers, knows = _ask_all(images, split, n_images, draw)
    labels = images.labels[numbers]
    _check_known(names, split, knows, labels, n_images)
    known, values = list[EntityPrompt](), dict[tuple[str, str], str]()
    for i, column in knows.nonzero().tolist():
        name, entity = names[column], str(i)
        values[entity, name] = images.images.values[name][int(labels[i, column])]
        known.append(EntityPrompt(entity, entity, len(entity), name, values[entity, name]))
    n_positions = int(images.mask.sum())

    def rows(of_images: Sequence[int]) -> Tensor:
        return torch.tensor(of_images)[:, None] * n_positions + torch.arange(n_positions)

    swaps = {}
    for name in names:
        pairs = draw_pairs(known, values, name, n_pairs, seed)
        bases = [int(known[pair.base].entity) for pair in pairs]
        sources = [int(known[pair.source].entity) for pair in pairs]
        questions = []
        for base, pair in zip(bases, pairs, strict=True):
            attribute = known[pair.base].attribute
            label = list(images.images.values[attribute]).index(pair.answer)
            questions.append(ImageQuestion(int(numbers[base]), names.index(attribute), label))
        names_of_bases = [(question.number, question.attribute) for question in questions]
        swaps[name] = Swaps(rows(bases), rows(sources), questions, sum(pair.is_cause for pair in pairs), names_of_bases)
    return KnownImages(numbers, swaps)


def _ask_all(
    images: LabelledImages, split: str, n_images: int, draw: int
) -> tuple[Int64[Tensor, " n"], Bool[Tensor, "n n_attributes"]]:
    """Return the images that can be decoded, and about which attributes of each the answer is correct."""
    zero_shot, read, is_correct = images.zero_shot(), [], []
    for batch in images.batches(images.numbers(split, n_images, draw)):
        answers = images.answers(zero_shot, images.source.embed_images(batch.pixels), batch.numbers)
        read.append(batch.numbers)
        is_correct.append(answers[..., 0] == 0)
    # Ranks may round an answer otherwise, and all must draw the same pairs: those of rank 0.
    numbers, knows = all_gather_object((torch.cat(read), torch.cat(is_correct)))[0]
    return numbers, knows


def _check_known(names: Sequence[str], split: str, knows: Tensor, labels: Tensor, n_images: int) -> None:
    for column, name in enumerate(names):
        if (n := int(knows[:, column].sum())) < _LEAST_KNOWN:
            n_asked = int((labels[:, column] >= 0).sum())
            raise ValueError(
                f"the model answers {n} of {n_asked} {split} images correctly about {name}, and {_LEAST_KNOWN} are "
                f"needed: {more_images(n_asked, n_images)}, or name others (attributes)"
            )
    for column, name in enumerate(names):
        if int((knows & knows[:, [column]]).any(0).sum()) < 2:
            raise ValueError(f"attributes: no {split} image has {name} and another one, and isolation needs both")


def more_images(n_asked: int, n_images: int) -> str:
    """Say what gives more answers: a larger n_images, or more images where all have been asked about."""
    return "raise n_images" if n_asked >= n_images else "give more images (these are all, n_images does not help)"


class EditedImages:
    """Images that a model is asked about while their activations are edited.

    Args:
        images: which images, and the model that reads them.
        *draws: numbers of the images that will be asked about. Their pixels and activations are held in memory, once
            for an image of several draws.
    """

    def __init__(self, images: LabelledImages, *draws: Int64[Tensor, " n"]) -> None:
        self.source, self.mask, self.batch_size = images.source, images.mask, images.batch_size
        self.zero_shot = images.zero_shot()
        self._pixels: dict[int, Tensor] = {}
        self._rows: dict[int, Tensor] = {}
        for numbers in draws:
            new = torch.tensor([number not in self._rows for number in numbers.tolist()], dtype=torch.bool)
            for batch in images.batches(numbers[new]):
                activations, masks = self.source.capture(batch)
                for number, pixels, x, mask in zip(
                    batch.numbers.tolist(), batch.pixels, activations.float(), masks, strict=True
                ):
                    # Massive positions that are left out stay in place, as a swap goes from position to position: edits
                    # of them pass them by, and they bring to other images what is usual in their own.
                    usual = x[mask].mean(0).nan_to_num()
                    rows = x.where(mask[:, None], usual)[self.mask.to(x.device)]
                    self._pixels[number], self._rows[number] = pixels, rows

    def activations(self, numbers: Int64[Tensor, " n"]) -> Float[Tensor, "n_times_positions d_in"]:
        """Return activations at valid positions, one image after the other."""
        return torch.cat([self._rows[number] for number in numbers.tolist()])

    def ask(
        self, questions: Sequence[ImageQuestion], edited: Float[Tensor, "n positions d_in"], part: str
    ) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
        """Return the cross-entropy in nats, and whether the answer is the one that is looked for.

        Differentiable in `edited`.

        Args:
            questions: read in one batch.
            edited: what stands at the valid positions.
            part: of the activations.
        """
        numbers, attributes, labels = torch.tensor([(q.number, q.attribute, q.label) for q in questions]).unbind(1)
        pixels = torch.stack([self._pixels[number] for number in numbers.tolist()])
        batch = ImageBatch(pixels, self.mask.expand(len(pixels), -1).to(pixels.device), numbers)

        def edit(activations: Tensor) -> Tensor:
            return activations.index_put(batch.mask.nonzero(as_tuple=True), edited.flatten(0, 1).to(activations))

        return self.zero_shot.ask(self.source.replace(batch, edit, part), attributes, labels)

    def is_correct(
        self, questions: Sequence[ImageQuestion], edited: Callable[[Tensor], Tensor], part: str
    ) -> Bool[Tensor, " n"]:
        """Return whether each answer is the one that is looked for, on the CPU.

        Args:
            questions: any number.
            edited: given numbers of questions, what stands at the valid positions of their images.
            part: of the activations.
        """
        answers = []
        for which in torch.arange(len(questions)).split(self.batch_size):
            answers.append(self.ask([questions[i] for i in which], edited(which), part)[1].cpu())
        return torch.cat(answers)
