"""What a language model knows of the facts that prompts ask for, and which attributes it knows well enough to edit."""

import random
from collections import Counter
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass

import torch

from sae_lightning.causal.prompts import EntityPrompt, EntityPrompts, Split
from sae_lightning.causal.questions import EntityQuestion, can_be_edited, is_correct, read_questions
from sae_lightning.datamodules.text_reader import TextReader
from sae_lightning.distributed import all_gather_object
from sae_lightning.tables import lay_out

MIN_KNOWN = 16
"""Prompts of an attribute that a model must answer, in training and in test."""
_MIN_OTHERS = 4  # of these, with another answer than the commonest: two that differ are what an edit swaps


@dataclass(frozen=True)
class Answers:
    """What a model answers when it is asked one part of the prompts.

    Args:
        split: which part.
        n_prompts: that were to be drawn for each attribute.
        there: all prompts of the part, by attribute.
        asked: those that were drawn and can be read, by attribute.
        known: those that it completes with their own answers, as it reads them, in the order of the attributes.
    """

    split: Split
    n_prompts: int
    there: Mapping[str, Sequence[EntityPrompt]]
    asked: Mapping[str, Sequence[EntityPrompt]]
    known: Sequence[tuple[EntityPrompt, EntityQuestion]]

    @property
    def values(self) -> dict[tuple[str, str], str]:
        """What is true, by entity and attribute."""
        return {
            (prompt.entity, attribute): prompt.answer.strip()
            for attribute, prompts in self.there.items()
            for prompt in prompts
        }

    def known_answers(self, attribute: str) -> Counter[str]:
        """Count the answers that the model knows."""
        return Counter(prompt.answer.strip() for prompt, _ in self.known if prompt.attribute == attribute)

    def why_too_little(self, attribute: str) -> str:
        """Say why the model knows too little of an attribute for edits; empty if it knows enough."""
        answers = self.known_answers(attribute)
        n_known, n_asked = answers.total(), len(self.asked[attribute])
        if n_known < MIN_KNOWN:
            return (
                f"the model answers {n_known} of {n_asked} {self.split} prompts about {attribute} correctly, and "
                + (f"{MIN_KNOWN} are needed")
            )
        answer, n_commonest = answers.most_common(1)[0]
        if n_known - n_commonest < _MIN_OTHERS:
            return (
                f"of the {n_known} {self.split} prompts about {attribute} that the model answers, {n_commonest} have "
                f"the answer {answer!r}, and {_MIN_OTHERS} others are needed"
            )
        return ""

    def what_helps(self, attribute: str) -> str:
        """Say what would let the model answer more: asking more, or having more to ask."""
        group, n_unreadable = self.there[attribute], self._n_drawn(attribute) - len(self.asked[attribute])
        first = group[0]
        message = f"such as {first.text!r} with {first.answer!r}: "
        if n_unreadable:
            message += f"{n_unreadable} more cannot be read, since no token ends where the answer begins, or the text "
            message += "is longer than the context; "
        if self._n_drawn(attribute) < len(group):
            return message + (
                f"raise n_prompts, now {self.n_prompts} of the {len(group)} that there are, or give prompts that this "
                "model can answer"
            )
        n_entities = len({prompt.entity for prompt in group})
        knows_all = self.known_answers(attribute).total() == len(group)
        return message + (
            f"these are all that there are, so n_prompts does not help. Give more {self.split} entities (now "
            f"{n_entities}) or wordings"
            + ("" if knows_all else ", or prompts that this model can answer")
            + f", or leave out {attribute}"
        )

    def _n_drawn(self, attribute: str) -> int:
        return min(self.n_prompts, len(self.there[attribute]))


def ask_what_is_known(
    reader: TextReader,
    prompts: EntityPrompts,
    n_prompts: int,
    seed: int,
    hook: str,
    split: Split,
    answered: MutableMapping[EntityPrompt, bool] | None = None,
) -> Answers:
    """Ask a model prompts about every attribute; every rank gets the answers of the first.

    Args:
        reader: of texts.
        prompts: to ask.
        n_prompts: drawn for each attribute.
        seed: of what is drawn.
        hook: name of a hook, where there are several.
        split: which part of the prompts.
        answered: of prompts that other draws have asked, whether the model answers correctly; the others are added.

    Raises:
        ValueError: if there are fewer than two attributes.
    """
    answered = {} if answered is None else answered
    rng, there = random.Random(seed), dict[str, list[EntityPrompt]]()
    for prompt in prompts.prompts(split):
        there.setdefault(prompt.attribute, []).append(prompt)
    if len(there) < 2:
        raise ValueError(
            f"prompts={prompts}: the {split} prompts are about {', '.join(there) or 'nothing'}; isolation needs two "
            "attributes or more"
        )
    drawn = [prompt for group in there.values() for prompt in rng.sample(group, min(n_prompts, len(group)))]
    pairs = zip(drawn, read_questions(reader, drawn, [prompt.answer for prompt in drawn]), strict=True)
    readable = [(prompt, question) for prompt, question in pairs if question is not None]
    unasked = [(prompt, question) for prompt, question in readable if prompt not in answered]
    is_known = _know(reader, [question for _, question in unasked], hook)
    answered.update({prompt: knows for (prompt, _), knows in zip(unasked, is_known, strict=True)})
    asked: dict[str, list[EntityPrompt]] = {attribute: [] for attribute in there}
    for prompt, _ in readable:
        asked[prompt.attribute].append(prompt)
    known = [(prompt, question) for prompt, question in readable if answered[prompt]]
    return Answers(split, n_prompts, there, asked, known)


def _know(reader: TextReader, questions: Sequence[EntityQuestion], hook: str) -> list[bool]:
    """Return whether the model knows the answer to each question, and an edit can reach its entity."""
    is_known = torch.zeros(len(questions), dtype=torch.bool)
    if questions:
        is_known = is_correct(reader.source, questions, reader.batch_size, hook=hook)
        if numbers := is_known.nonzero()[:, 0].tolist():
            own = [questions[i] for i in numbers]
            is_known[numbers] = can_be_edited(reader.source, own, reader.batch_size)
    # Ranks may round otherwise, and must agree on the prompts.
    return all_gather_object(is_known)[0].tolist()


@dataclass(frozen=True)
class Knowledge:
    """What a model answers in training and in test, and what follows from it.

    Args:
        train: answers to training prompts.
        test: answers to test prompts.
    """

    train: Answers
    test: Answers

    def share(self, attribute: str) -> float:
        """Return the share of the prompts about an attribute that the model answers; 0 where none can be read."""
        n_known = sum(part.known_answers(attribute).total() for part in (self.train, self.test))
        return n_known / max(self._n_asked(attribute), 1)

    def share_of_commonest(self, attribute: str) -> float:
        """Return the share that the commonest value alone would answer."""
        values = Counter(
            prompt.answer.strip() for part in (self.train, self.test) for prompt in part.asked.get(attribute, ())
        )
        return max(values.values(), default=0) / max(self._n_asked(attribute), 1)

    def _n_asked(self, attribute: str) -> int:
        return sum(len(part.asked.get(attribute, ())) for part in (self.train, self.test))

    @property
    def attributes(self) -> list[str]:
        """All that are asked about."""
        return list({**self.train.there, **self.test.there})

    def left_out(self) -> dict[str, str]:
        """Return why attributes are left out: too little is known of them, or of all others of their entities."""
        reasons = {name: reason for name in self.attributes if (reason := self._why_too_little(name))}
        entities = {
            name: {prompt.entity for prompt in self.train.there[name]}
            for name in self.attributes
            if name not in reasons
        }
        for name, own in entities.items():
            if not any(own & others for other, others in entities.items() if other != name):
                reasons[name] = f"of no other attribute of the entities of {name} the model knows enough"
        return {name: reasons[name] for name in self.attributes if name in reasons}

    def _why_too_little(self, attribute: str) -> str:
        for part in (self.train, self.test):
            if attribute not in part.there:
                return f"there are no {part.split} prompts about {attribute}"
            if reason := part.why_too_little(attribute):
                return reason
        return ""

    def refuse_if_nothing_is_left(self) -> None:
        """Refuse a model of which no attribute is left.

        Raises:
            ValueError: that says what the model knows, and what helps.
        """
        if len(self.left_out()) < len(self.attributes):
            return
        too_little = (
            f"{part.why_too_little(name)}, {part.what_helps(name)}. "
            for name in self.attributes
            for part in (self.train, self.test)
            if name in part.there and part.why_too_little(name)
        )
        raise ValueError(
            f"{next(too_little, '')}No entities are left with two attributes that the model knows well enough:\n"
            f"{self.table()}"
        )

    def table(self) -> str:
        """Return what the model knows of each attribute, as text."""
        rows = [["", "train", "test", "share", "commonest answer", ""]]
        reasons = self.left_out()
        for name in self.attributes:
            counts = [
                f"{part.known_answers(name).total()} of {len(part.asked.get(name, ()))}"
                for part in (self.train, self.test)
            ]
            shares = [f"{self.share(name):.3f}", f"{self.share_of_commonest(name):.3f}"]
            rows.append([name, *counts, *shares, "left out" if name in reasons else ""])
        return lay_out(rows)
