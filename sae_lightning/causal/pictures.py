"""Pairs of pictures of which a CLIP model knows the attributes, and what it answers when a picture is edited.

A picture takes the place of an entity, a question about one of its attributes that of a prompt: see `draw_pairs`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_lightning.causal.pairs import draw_pairs
from sae_lightning.causal.prompts import EntityPrompt
from sae_lightning.causal.swaps import Swaps
from sae_lightning.distributed import all_gather_object
from sae_lightning.sources import ImageBatch

_LEAST_KNOWN = 16


@dataclass(frozen=True)
class PictureQuestion:
    """Has the picture this value of the attribute?

    Args:
        number: of the picture.
        attribute: index of the attribute.
        label: index of the value.
    """

    number: int
    attribute: int
    label: int


@dataclass(frozen=True)
class KnownPictures:
    """What a model knows of some pictures.

    Args:
        numbers: [n] of the pictures.
        swaps: by attribute; picture i has the activations i * positions to (i + 1) * positions - 1.
    """

    numbers: Int64[Tensor, " n"]
    swaps: Mapping[str, Swaps]


@torch.no_grad()
def find_known_pictures(pictures: Any, split: str, n_images: int, n_pairs: int, seed: int) -> KnownPictures:
    """Asks the model, and makes pairs of what it answers correctly, the same on every rank.

    Args:
        pictures: LabelledPictures.
        split: `train` or `heldout`.
        n_images: pictures for each attribute.
        n_pairs: of each kind, for each attribute.
        seed: of what is drawn.

    Raises:
        ValueError: if there are fewer than two attributes, or the model knows too little of one.
    """
    names = pictures.attributes
    if len(names) < 2:
        raise ValueError(f"attributes={names}: isolation needs two attributes or more")
    zero_shot, read, right = pictures.zero_shot(), [], []
    for batch in pictures.batches(pictures.numbers(split, n_images)):
        answers = pictures.answers(zero_shot, pictures.source.embed_images(batch.pixels), batch.numbers)
        read.append(batch.numbers)
        right.append(answers[..., 0] == 0)
    numbers, knows = all_gather_object((torch.cat(read), torch.cat(right)))[0]
    labels = pictures.labels[numbers]
    known, values = list[EntityPrompt](), dict[tuple[str, str], str]()
    for i, column in knows.nonzero().tolist():
        name, entity = names[column], str(i)
        values[entity, name] = pictures.images.values[name][int(labels[i, column])]
        known.append(EntityPrompt(entity, entity, len(entity), name, values[entity, name]))
    for column, name in enumerate(names):
        if (n := int(knows[:, column].sum())) < _LEAST_KNOWN:
            raise ValueError(
                f"the model answers {n} of {int((labels[:, column] >= 0).sum())} {split} pictures correctly about "
                f"{name}, and {_LEAST_KNOWN} are needed: raise n_images, or name others (attributes)"
            )
    for column, name in enumerate(names):
        if int((knows & knows[:, [column]]).any(0).sum()) < 2:
            raise ValueError(f"attributes: no {split} picture has {name} and another one, and isolation needs both")
    n_positions = int(pictures.mask.sum())

    def rows(of: Sequence[int]) -> Tensor:
        return torch.tensor(of)[:, None] * n_positions + torch.arange(n_positions)

    swaps = {}
    for name in names:
        pairs = draw_pairs(known, values, name, n_pairs, seed)
        bases, sources = (
            [int(known[i].entity) for i in of] for of in zip(*((p.base, p.source) for p in pairs), strict=True)
        )
        asked = [known[pair.base].attribute for pair in pairs]
        questions = [
            PictureQuestion(int(numbers[i]), names.index(of), list(pictures.images.values[of]).index(pair.answer))
            for i, of, pair in zip(bases, asked, pairs, strict=True)
        ]
        swaps[name] = Swaps(rows(bases), rows(sources), questions, sum(pair.is_cause for pair in pairs))
    return KnownPictures(numbers, swaps)


class PictureAsker:
    """Asks a model about edited pictures, which it holds.

    Args:
        pictures: LabelledPictures.
        numbers: of all pictures that will be asked about.
    """

    def __init__(self, pictures: Any, numbers: Int64[Tensor, " n"]) -> None:
        self.source, self.mask, self.batch_size = pictures.source, pictures.mask, pictures.batch_size
        self.zero_shot = pictures.zero_shot()
        self._pixels: dict[int, Tensor] = {}
        self._rows: dict[int, Tensor] = {}
        for batch in pictures.batches(numbers):
            activations, counts = self.source.capture(batch)
            for number, pixels, x, counted in zip(
                batch.numbers.tolist(), batch.pixels, activations.float(), counts, strict=True
            ):
                self._pixels[number], self._rows[number] = pixels, x[counted]

    def activations(self, numbers: Int64[Tensor, " n"]) -> Float[Tensor, "n_times_positions d_in"]:
        """At the positions that count, one picture after the other."""
        return torch.cat([self._rows[number] for number in numbers.tolist()])

    def ask(
        self, questions: Sequence[PictureQuestion], edited: Float[Tensor, "n positions d_in"], part: str
    ) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
        """Cross-entropy in nats, and whether the answer is the one that is looked for; differentiable in `edited`.

        Args:
            questions: read in one batch.
            edited: what stands at the positions that count.
            part: of the activations.
        """
        numbers, attributes, labels = torch.tensor([(q.number, q.attribute, q.label) for q in questions]).unbind(1)
        pixels = torch.stack([self._pixels[number] for number in numbers.tolist()])
        batch = ImageBatch(pixels, self.mask.expand(len(pixels), -1).to(pixels.device), numbers)

        def edit(activations: Tensor) -> Tensor:
            return activations.index_put(batch.mask.nonzero(as_tuple=True), edited.flatten(0, 1).to(activations))

        return self.zero_shot.ask(self.source.replace(batch, edit, part), attributes, labels)

    def are_right(
        self, questions: Sequence[PictureQuestion], edited: Callable[[Tensor], Tensor], part: str
    ) -> Bool[Tensor, " n"]:
        """Whether each answer is the one that is looked for, on the CPU; `edited` gets the numbers of questions."""
        right = []
        for which in torch.arange(len(questions)).split(self.batch_size):
            right.append(self.ask([questions[i] for i in which], edited(which), part)[1].cpu())
        return torch.cat(right)
