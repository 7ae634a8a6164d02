"""Pairs of known prompts for every attribute, ready to be read."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sae_lightning.causal.pairs import Pair, draw_pairs
from sae_lightning.causal.prompts import EntityPrompt, EntityPrompts, Split
from sae_lightning.causal.questions import Question, are_right, read_questions
from sae_lightning.distributed import all_gather_object

_LEAST_KNOWN = 16


@dataclass(frozen=True)
class Swaps:
    """Pairs of prompts or pictures, and the questions that tell whether a swap does what it should.

    Args:
        base: [n] number of the activation that is edited, [n, positions] where several are.
        source: the same of the activation whose coordinates are swapped in.
        questions: the base with the answer that is looked for.
        n_cause: the first so many are cause pairs, the others isolation pairs.
    """

    base: Tensor
    source: Tensor
    questions: Sequence[Any]
    n_cause: int

    def batches(self, n_epochs: int, batch_size: int, seed: int) -> Sequence[Tensor]:
        """Numbers of pairs in a new order each epoch, half of each batch cause and half isolation pairs."""
        generator = torch.Generator().manual_seed(seed)
        batches: list[Tensor] = []
        n_batches = -(-len(self.base) // batch_size)
        for _ in range(n_epochs):
            cause = torch.randperm(self.n_cause, generator=generator)
            isolation = self.n_cause + torch.randperm(len(self.base) - self.n_cause, generator=generator)
            halves = zip(cause.tensor_split(n_batches), isolation.tensor_split(n_batches), strict=True)
            batches += map(torch.cat, halves)
        return batches


@dataclass(frozen=True)
class Known:
    """What a model knows of one part of the prompts.

    Args:
        questions: the prompts with their own answers, which the model gives.
        swaps: by attribute, of these prompts.
    """

    questions: Sequence[Question]
    swaps: Mapping[str, Swaps]


def find_known(
    reader: Any, prompts: EntityPrompts, n_prompts: int, seed: int, hook: str, split: Split, n_pairs: int
) -> Known:
    """Asks the model, and makes pairs of the prompts that it answers correctly, the same on every rank.

    Args:
        reader: a TextReader.
        prompts: to ask.
        n_prompts: drawn for each attribute.
        seed: of what is drawn.
        hook: name of a hook, where there are several.
        split: which part of the prompts.
        n_pairs: of each kind, for each attribute.

    Raises:
        ValueError: if there are fewer than two attributes, or the model knows too little of one.
    """
    rng = random.Random(seed)
    by_attribute: dict[str, list[EntityPrompt]] = {}
    values: dict[tuple[str, str], str] = {}
    for prompt in prompts.prompts(split):
        by_attribute.setdefault(prompt.attribute, []).append(prompt)
        values[prompt.entity, prompt.attribute] = prompt.answer.strip()
    if len(by_attribute) < 2:
        raise ValueError(
            f"prompts={prompts}: the {split} prompts are about {', '.join(by_attribute) or 'nothing'}; isolation needs "
            "two attributes or more"
        )
    drawn = [prompt for of in by_attribute.values() for prompt in rng.sample(of, min(n_prompts, len(of)))]
    asked = read_questions(reader, drawn, [prompt.answer for prompt in drawn])
    readable = [i for i, question in enumerate(asked) if question is not None]
    questions = [question for question in asked if question is not None]
    right = are_right(reader.source, questions, reader.batch_size, hook=hook) if questions else torch.empty(0)
    right = all_gather_object(right)[0]
    known = [drawn[i] for i, is_known in zip(readable, right.tolist(), strict=True) if is_known]
    for attribute, of in by_attribute.items():
        if (n := sum(prompt.attribute == attribute for prompt in known)) < _LEAST_KNOWN:
            raise ValueError(
                f"the model answers {n} of {min(n_prompts, len(of))} {split} prompts about {attribute} correctly, and "
                f"{_LEAST_KNOWN} are needed, such as {of[0].text!r} with {of[0].answer!r}: raise n_prompts, or give "
                "prompts that this model can answer"
            )
    return Known(
        [questions[i] for i in right.nonzero()[:, 0].tolist()],
        {name: _swaps(reader, known, draw_pairs(known, values, name, n_pairs, seed)) for name in by_attribute},
    )


def _swaps(reader: Any, known: Sequence[EntityPrompt], pairs: Sequence[Pair]) -> Swaps:
    questions = read_questions(reader, [known[pair.base] for pair in pairs], [pair.answer for pair in pairs])
    asked = [(pair, question) for pair, question in zip(pairs, questions, strict=True) if question is not None]
    return Swaps(
        torch.tensor([pair.base for pair, _ in asked]),
        torch.tensor([pair.source for pair, _ in asked]),
        [question for _, question in asked],
        sum(pair.is_cause for pair, _ in asked),
    )
