"""Pairs of known prompts for every attribute, ready to be read."""

import random
from collections.abc import Hashable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sae_lightning.causal.pairs import Pair, draw_pairs
from sae_lightning.causal.prompts import EntityPrompt, EntityPrompts, Split
from sae_lightning.causal.questions import EntityQuestion, can_be_edited, is_correct, read_questions
from sae_lightning.datamodules.text_reader import TextReader
from sae_lightning.distributed import all_gather_object

_MIN_KNOWN = 16


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


def find_known_prompts(
    reader: TextReader,
    prompts: EntityPrompts,
    n_prompts: int,
    seed: int,
    hook: str,
    split: Split,
    n_pairs: int,
    answered: MutableMapping[EntityPrompt, bool] | None = None,
) -> KnownPrompts:
    """Ask the model, and make pairs of the prompts that it answers correctly, the same on every rank.

    Args:
        reader: of texts.
        prompts: to ask.
        n_prompts: drawn for each attribute.
        seed: of what is drawn.
        hook: name of a hook, where there are several.
        split: which part of the prompts.
        n_pairs: of each kind, for each attribute.
        answered: of prompts that other draws have asked, whether the model answers correctly; the others are added.

    Raises:
        ValueError: if there are fewer than two attributes, or the model knows too little of one.
    """
    answered = {} if answered is None else answered
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
    drawn = [prompt for group in by_attribute.values() for prompt in rng.sample(group, min(n_prompts, len(group)))]
    pairs = zip(drawn, read_questions(reader, drawn, [prompt.answer for prompt in drawn]), strict=True)
    readable = [(prompt, question) for prompt, question in pairs if question is not None]
    unasked = [(prompt, question) for prompt, question in readable if prompt not in answered]
    questions = [question for _, question in unasked]
    is_known = torch.empty(0)
    if questions:
        is_known = is_correct(reader.source, questions, reader.batch_size, hook=hook)
        is_known &= can_be_edited(reader.source, questions, reader.batch_size)
    is_known = all_gather_object(is_known)[0]  # ranks may round otherwise, and must agree on the prompts
    answered.update({prompt: bool(knows) for (prompt, _), knows in zip(unasked, is_known.tolist(), strict=True)})
    known = [(prompt, question) for prompt, question in readable if answered[prompt]]
    known_prompts = [prompt for prompt, _ in known]
    for attribute, group in by_attribute.items():
        if (n := sum(prompt.attribute == attribute for prompt in known_prompts)) < _MIN_KNOWN:
            raise ValueError(_too_few(n, min(n_prompts, len(group)), group, split, n_prompts))
    return KnownPrompts(
        known_prompts,
        [question for _, question in known],
        {
            name: _swaps(reader, known_prompts, draw_pairs(known_prompts, values, name, n_pairs, seed))
            for name in by_attribute
        },
    )


def _too_few(n_known: int, n_asked: int, group: Sequence[EntityPrompt], split: Split, n_prompts: int) -> str:
    """Say how much of an attribute the model knows, and what helps: asking more, or having more to ask."""
    first = group[0]
    message = (
        f"the model answers {n_known} of {n_asked} {split} prompts about {first.attribute} correctly, and {_MIN_KNOWN} "
        f"are needed, such as {first.text!r} with {first.answer!r}: "
    )
    if n_asked < len(group):
        return message + (
            f"raise n_prompts, now {n_prompts} of the {len(group)} that there are, or give prompts that this model can "
            "answer"
        )
    n_entities = len({prompt.entity for prompt in group})
    return message + (
        f"these are all that there are, so n_prompts does not help. Give more {split} entities (now {n_entities}) or "
        "wordings"
        + ("" if n_known == n_asked else ", or prompts that this model can answer")
        + f", or leave out {first.attribute}"
    )


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
