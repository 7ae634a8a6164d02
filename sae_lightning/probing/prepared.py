"""`PreparedTask`: the examples of a task as tokens of a model, and the problems made of them."""

from collections import Counter, defaultdict
from collections.abc import Hashable, MutableMapping, Sequence
from itertools import accumulate
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from sae_lightning.datamodules.text_reader import Reading, TextReader
from sae_lightning.probing.features import Pooling, Tokens
from sae_lightning.probing.problems import control, one_vs_rest
from sae_lightning.probing.task import Example, ProbingTask

PlaceInText: TypeAlias = tuple[str, tuple[int, ...]]
"""A text and the tokens in it at which an example is read."""

_MIN_EXAMPLES = 10
_SEED = 42


class PreparedTask:
    """A task as the model of a run reads it.

    Args:
        task: where examples come from.
        reader: reads texts.
        n_train: training examples of a problem at most, half of them positive.
        n_test: test examples of a problem at most, and as many out of distribution.
        pooling: how the tokens of a whole text become one example.
        draw: which examples are drawn, and with it which control labels.

    Raises:
        ValueError: if there are less than two classes, or too few examples of a class.
    """

    def __init__(
        self, task: ProbingTask, reader: TextReader, n_train: int, n_test: int, pooling: Pooling, draw: int = 0
    ) -> None:
        self.reader, self.pooling = reader, pooling
        loaded = task.load_draw(n_train // 2, n_test // 2, draw)
        by_set = {"train": loaded.train, "test": loaded.test, "ood": loaded.ood}
        labelled = [(name, example) for name, examples in by_set.items() for example in examples]
        # Several examples may be places in one text, which is read once.
        texts = list(dict.fromkeys(example.text for _, example in labelled))
        numbers = {text: number for number, text in enumerate(texts)}
        self.readings = reader.read(texts)
        kept: list[tuple[str, Example]] = []
        self.places: list[tuple[int, Int64[Tensor, " n"]]] = []
        for name, example in labelled:
            number = numbers[example.text]
            if len(tokens := tokens_of(self.readings[number], example, pooling)):
                kept.append((name, example))
                self.places.append((number, tokens))
        check(task, kept, labelled)
        sets, examples = [name for name, _ in kept], [example for _, example in kept]
        problems = one_vs_rest([example.label for example in examples], sets)
        self.classes, self.problems = list(problems), list(problems.values())
        generator, units = (
            np.random.default_rng([_SEED, draw] if draw else _SEED),
            [example.unit for example in examples],
        )
        self.controls = [control(problem, units, generator) for problem in self.problems]
        self.documents: Sequence[Hashable] = [example.document for example in examples]
        self._places_in_texts = [(texts[number], tuple(tokens.tolist())) for number, tokens in self.places]

    def capture(self, known: MutableMapping[PlaceInText, Tensor] | None = None) -> Tokens:
        """Return activations of all examples, from one pass of the model over their texts.

        Tokens whose activations are massive and left out are none of an example's.

        Args:
            known: activations of places that other draws of the task have read; the others are added.
        """
        known = {} if known is None else known
        by_reading: defaultdict[int, list[int]] = defaultdict(list)
        rows: list[Tensor] = [torch.empty(0)] * len(self.places)
        for example, (number, _) in enumerate(self.places):
            if (place := self._places_in_texts[example]) in known:
                rows[example] = known[place]
            else:
                by_reading[number].append(example)
        needed = list(by_reading)
        for which, inputs in self.reader.batches([self.readings[number] for number in needed]):
            activations, masks = (part.cpu() for part in self.reader.source.capture(inputs))
            for row, mask, i in zip(activations, masks, which, strict=True):
                for example in by_reading[needed[i]]:
                    places = self.places[example][1]
                    rows[example] = known[self._places_in_texts[example]] = row[places[mask[places]]]
        return Tokens(torch.cat(rows), np.array([0, *accumulate(map(len, rows))]), self.pooling)


def tokens_of(reading: Reading, example: Example, pooling: Pooling) -> Int64[Tensor, " n"]:
    """Return the tokens that an example is read at.

    Args:
        reading: of the example's text.
        example: a text or a place in one.
        pooling: `last` for the last token of a whole text alone.

    Returns:
        Their indices; none where the text was cut before the place, or its borders are within tokens.
    """
    if example.span is None:
        valid = reading.mask.nonzero()[:, 0]
        return valid[-1:] if pooling == "last" else valid
    begin, end = example.span
    first, after = reading.spans.T
    within = reading.mask & (first < end) & (after > begin)
    if not within.any():
        return torch.zeros(0, dtype=torch.int64)
    last = int(within.nonzero()[-1, 0])
    # A token may begin with the blanks before the place, and with nothing else.
    before = example.text[min(int(first[last]), begin) : begin]
    fits = int(after[last]) == end and not before.strip()
    return torch.tensor([last] if fits else [], dtype=torch.int64)


def check(task: ProbingTask, kept: Sequence[tuple[str, Example]], labelled: Sequence[tuple[str, Example]]) -> None:
    """Refuse a task of which nothing can be learned.

    Args:
        task: for the message.
        kept: examples that the model can read, each with the name of its set.
        labelled: all examples.

    Raises:
        ValueError: if there are less than two classes, or too few examples of a class.
    """
    labels = sorted({example.label for _, example in labelled})
    if len(labels) < 2:
        raise ValueError(f"{task}: expected two classes or more, found {labels}")
    counts = Counter((name, example.label) for name, example in kept)
    for name in ("train", "test"):
        for label in labels:
            if (n := counts[name, label]) < _MIN_EXAMPLES:
                lost = Counter((name, example.label) for name, example in labelled)[name, label] - n
                cut = f" and {lost} more beyond the context length of the run or within a token" if lost else ""
                raise ValueError(
                    f"{task}: class {label!r} has {n} {name} examples{cut}, expected at least {_MIN_EXAMPLES}: give "
                    "more, or leave the class out"
                )
