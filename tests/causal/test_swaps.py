"""Pairs ready to be read: what goes into a batch, and prompts that the model does not know or cannot read."""

import torch
from causal.toy import ToyData, ToyPrompts, prompt

from sae_lightning.causal import EntityPrompt
from sae_lightning.causal.knowledge import Answers
from sae_lightning.causal.questions import read_questions
from sae_lightning.causal.swaps import Swaps, known_prompts

N_PAIRS = 9


def answers_of(reader, prompts):
    """Of a model that knows all of these."""
    there = {}
    for one in prompts:
        there.setdefault(one.attribute, []).append(one)
    known = list(zip(prompts, read_questions(reader, prompts, [one.answer for one in prompts]), strict=True))
    return Answers("train", len(prompts), there, there, known)


def test_each_batch_has_both_kinds_of_pairs_and_each_epoch_all_of_them():
    swaps = Swaps(torch.arange(10), torch.arange(10), range(10), n_cause=6)
    batches = swaps.batches(n_epochs=2, batch_size=4, seed=0)
    assert [len(batch) for batch in batches] == [4, 3, 3] * 2
    assert [(batch < 6).sum() for batch in batches] == [2, 2, 2] * 2
    first, second = torch.cat(batches[:3]), torch.cat(batches[3:])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(10))
    assert not torch.equal(first, second), "in a new order"
    again = swaps.batches(n_epochs=2, batch_size=4, seed=0)
    assert all(map(torch.equal, batches, again))
    assert not all(map(torch.equal, batches, swaps.batches(n_epochs=2, batch_size=4, seed=1)))


def test_pairs_are_numbers_of_the_prompts_that_are_known():
    prompts, reader = ToyPrompts().prompts("train"), ToyData().reader
    about = known_prompts(reader, answers_of(reader, prompts), ["country", "language"], N_PAIRS, seed=0)
    assert len(about.prompts) == len(about.questions) == len(prompts)
    swaps = about.swaps["country"]
    assert swaps.n_cause == N_PAIRS
    assert len(swaps.base) == len(swaps.source) == len(swaps.questions) == 2 * N_PAIRS
    bases = [about.prompts[number] for number in swaps.base]
    assert [base.text for base in bases] == swaps.names
    assert [base.attribute for base in bases] == ["country"] * N_PAIRS + ["language"] * N_PAIRS
    assert {about.prompts[number].attribute for number in swaps.source} == {"country"}


def test_prompts_about_other_attributes_are_left_out():
    prompts, reader = ToyPrompts().prompts("train"), ToyData().reader
    answers = answers_of(reader, [*prompts, EntityPrompt("e0 is", "e0", 2, "mayor", " country0")])
    about = known_prompts(reader, answers, ["country", "language"], N_PAIRS, seed=0)
    assert set(about.swaps) == {"country", "language"}
    assert list(about.prompts) == prompts


def test_pairs_whose_answer_does_not_fit_behind_the_base_are_left_out():
    """Twelve words fit behind three, and the beginning of a text, in sixteen; they do not behind five."""
    long = EntityPrompt("e4 country is", "e4", 2, "country", " country1" * 12)
    prompts = [prompt("the {1} of {0} is", 0, "country"), long, *(prompt("{} {} is", i, "language") for i in (0, 4))]
    reader = ToyData(context_length=16).reader
    about = known_prompts(reader, answers_of(reader, prompts), ["country", "language"], 4, seed=0)
    swaps = about.swaps["country"]
    assert swaps.n_cause == 2
    assert swaps.names[:2] == ["e4 country is"] * 2
    assert len(swaps.base) == len(swaps.source) == len(swaps.questions) == len(swaps.names)
    assert None not in swaps.questions
