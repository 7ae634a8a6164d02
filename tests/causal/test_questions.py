"""Entities at positions that no SAE reads are not asked about."""

from types import SimpleNamespace

import pytest
import tiny
import torch

from sae_lightning.causal.prompts import EntityPrompt
from sae_lightning.causal.questions import ask, can_be_edited, entity_activations, read_questions
from sae_lightning.datamodules.packing import Packing
from sae_lightning.datamodules.text_reader import TextReader
from sae_lightning.sources import LanguageModelSource
from sae_lightning.sources.checkpoint import load_tokenizer
from sae_lightning.sources.massive import HookNorms, MassiveRule

PROMPTS = [
    EntityPrompt("cat sat on", "cat", 3, "place", " mat"),
    EntityPrompt("the dog sat on", "dog", 7, "place", " mat"),
]


@pytest.fixture
def reader(tmp_path):
    folder = tiny.save_sink_lm(tmp_path)

    def make(skip_first=0):
        source = LanguageModelSource(folder, "transformer.drop")
        source.massive = MassiveRule(10.0, lambda _: {"": HookNorms(2.0, 1)})
        packing = Packing(load_tokenizer(folder), 16, skip_first=skip_first)
        return TextReader(SimpleNamespace(source=source, packing=packing, llm_batch_size=4))

    return make


def test_an_entity_at_a_massive_position_cannot_be_edited(reader):
    reader = reader()
    questions = read_questions(reader, PROMPTS, [prompt.answer for prompt in PROMPTS])
    assert [question.entity_at for question in questions] == [1, 2]
    assert can_be_edited(reader.source, questions, 1).tolist() == [False, True]
    x = entity_activations(reader.source, questions, 4)
    other = torch.arange(16.0).expand_as(x)
    losses = [ask(reader.source, questions, edited)[0] for edited in (x, other)]
    assert (losses[0] == losses[1]).tolist() == [True, False]


def test_an_entity_at_a_skipped_position_is_no_question(reader):
    questions = read_questions(reader(skip_first=2), PROMPTS, [prompt.answer for prompt in PROMPTS])
    assert [question is None for question in questions] == [True, False]
