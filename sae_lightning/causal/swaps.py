"""Pairs of known prompts for every attribute, ready to be read."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sae_lightning.causal.knowledge import Answers
from sae_lightning.causal.pairs import Pair, draw_pairs
from sae_lightning.causal.prompts import EntityPrompt
from sae_lightning.causal.questions import EntityQuestion, read_questions
from sae_lightning.datamodules.text_reader import TextReader


@dataclass(frozen=True)
class Swaps:
    """Pairs of prompts or images, and the questions that tell whether a swap does what it should.

    Args:
        base: [n] number of the activation that is edited, [n, positions] where several are.
        source: the same of the activation whose coordinates are swapped in.
        questions: of each pair, the base with the answer that is looked for.
        n_cause: the first so many are cause pairs, the others isolation pairs.
        names: what the base of each pair is, by which it is known again in another draw.
    """

    base: Tensor
    source: Tensor
    questions: Sequence[Any]
    n_cause: int
    names: Sequence[Hashable] = ()

    def batches(self, n_epochs: int, batch_size: int, seed: int) -> Sequence[Tensor]:
        """Return numbers of pairs in a new order each epoch, half of each batch cause and half isolation pairs."""
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
class KnownPrompts:
    """What a model knows of one part of the prompts.

    Args:
        prompts: which it completes with their own answers.
        questions: these prompts as the model reads them.
        swaps: by attribute, of these prompts.
    """

    prompts: Sequence[EntityPrompt]
    questions: Sequence[EntityQuestion]
    swaps: Mapping[str, Swaps]


def known_prompts(
    reader: TextReader, answers: Answers, attributes: Sequence[str], n_pairs: int, seed: int
) -> KnownPrompts:
    """Make pairs of the prompts that a model answers correctly, the same on every rank.

    Args:
        reader: of texts.
        answers: of the model.
        attributes: of which the model knows enough; prompts about others are left out.
        n_pairs: of each kind, for each attribute.
        seed: of the pairs.

    Raises:
        ValueError: if an attribute has no pairs.
    """
    known = [(prompt, question) for prompt, question in answers.known if prompt.attribute in attributes]
    prompts, values = [prompt for prompt, _ in known], answers.values
    swaps = {name: _swaps(reader, prompts, draw_pairs(prompts, values, name, n_pairs, seed)) for name in attributes}
    return KnownPrompts(prompts, [question for _, question in known], swaps)


def _swaps(reader: TextReader, known: Sequence[EntityPrompt], pairs: Sequence[Pair]) -> Swaps:
    questions = read_questions(reader, [known[pair.base] for pair in pairs], [pair.answer for pair in pairs])
    # The answer of another prompt may be longer, and reach beyond the context.
    readable = [(pair, question) for pair, question in zip(pairs, questions, strict=True) if question is not None]
    return Swaps(
        torch.tensor([pair.base for pair, _ in readable]),
        torch.tensor([pair.source for pair, _ in readable]),
        [question for _, question in readable],
        sum(pair.is_cause for pair, _ in readable),
        [known[pair.base].text for pair, _ in readable],
    )
