"""The pocket language model as it lies in its folder."""

import importlib
import random
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from sae_lightning.causal import Knowledge, ask_what_is_known
from sae_lightning.datamodules import LanguageModelDataModule
from sae_lightning.datamodules.text_reader import TextReader
from sae_lightning.pocket import PocketFacts, PocketText
from sae_lightning.pocket.corpus import PocketCorpus
from sae_lightning.pocket.facts import KINDS, Entity, fact_prompts, fact_sentences, read_facts
from sae_lightning.pocket.library import standard_library_documents

FOLDER = Path(__file__).parents[2] / "data" / "pocket_lm"
TABLES = (FOLDER / "facts.csv", FOLDER / "people.csv")
ATTRIBUTES = [attribute for kind in KINDS for attribute in kind.attributes]
BEST_LAYER = 1


@pytest.fixture(scope="module")
def scripts() -> Iterator[tuple[ModuleType, ModuleType]]:
    """The modules that lie beside the model, which its scripts import by their plain names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield importlib.import_module("measures"), importlib.import_module("swaps")
        for name in ("measures", "swaps"):
            patch.delitem(sys.modules, name)


@pytest.fixture(scope="module")
def measures(scripts: tuple[ModuleType, ModuleType]) -> ModuleType:
    """Losses and fact accuracy."""
    return scripts[0]


@pytest.fixture(scope="module")
def swaps(scripts: tuple[ModuleType, ModuleType]) -> ModuleType:
    """Swaps of the residual stream."""
    return scripts[1]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(FOLDER, local_files_only=True, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def entities() -> list[Entity]:
    """Cities and people."""
    return [entity for table in TABLES for entity in read_facts(table)]


@pytest.fixture(scope="module")
def prompts(entities):
    every = fact_prompts(entities, "heldout")
    by_attribute = {name: [prompt for prompt in every if prompt.attribute == name] for name in ATTRIBUTES}
    return [prompt for group in by_attribute.values() for prompt in random.Random(1).sample(group, 30)]


def test_folder_is_small_and_weights_have_16_bit():
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 12e6
    with safe_open(FOLDER / "model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"F16"}  # noqa: SIM118
    # Without a word about the type, users compute in 32 bit.
    assert AutoConfig.from_pretrained(FOLDER, local_files_only=True).dtype == torch.float32


def test_model_has_the_stated_shape(model, tokenizer):
    assert 3e6 < sum(value.numel() for value in model.parameters()) < 6e6
    assert model.config.model_type == "llama"
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.max_position_embeddings == tokenizer.model_max_length


@pytest.mark.parametrize("text", ["def f(x):\n    return x ** 2  # ², naïve\n", "Timișoara lies in Romania.", " \t a"])
def test_tokenizer_keeps_text_and_starts_with_bos(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:]) == text
    assert tokenizer.encode(text, add_special_tokens=False) == ids[1:]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1, 2)


def test_most_names_end_in_a_token_of_their_own(tokenizer, swaps, prompts):
    places = [swaps.entity_position(tokenizer, prompt) for prompt in prompts]
    words = [
        tokenizer.decode(tokenizer(prompt.prompt)["input_ids"][place])
        for prompt, place in zip(prompts, places, strict=True)
    ]
    whole = sum(prompt.entity.endswith(word.strip()) for prompt, word in zip(prompts, words, strict=True))
    single = sum(prompt.entity.split()[-1] == word.strip() for prompt, word in zip(prompts, words, strict=True))
    assert whole == len(prompts)
    assert single > 0.9 * len(prompts)


def test_facts_are_completed_in_unseen_wordings(model, tokenizer, measures, prompts, entities):
    shares = measures.fact_accuracy(model, tokenizer, prompts)
    assert set(shares) == set(ATTRIBUTES)
    assert min(shares.values()) >= 0.8
    floor = measures.majority_accuracy(entities)
    assert all(shares[name] > floor[name] + 0.2 for name in ATTRIBUTES)


def test_untrained_weights_complete_nothing(model, tokenizer, measures, prompts):
    torch.manual_seed(0)
    untrained = type(model)(model.config).eval()
    assert max(measures.fact_accuracy(untrained, tokenizer, prompts[::4]).values()) < 0.1


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (" France.", True),
        (" France", True),
        (" France, on", True),
        (" Frances", False),
        (" Fran", False),
        ("France.", False),
        (" the France.", False),
        ("", False),
    ],
)
def test_only_the_whole_answer_counts(measures, text, right):
    assert measures.is_answer(text, "France") is right


def test_heldout_loss_is_below_simple_models(model, tokenizer, measures, entities):
    train = islice(PocketCorpus("train", TABLES), 1000)
    ngrams = measures.NgramModel(measures.encode_documents(tokenizer, train), len(tokenizer))
    texts = {
        "library": islice(standard_library_documents("heldout"), 40),
        "facts": islice(fact_sentences(entities, "heldout", 0), 300),
    }
    for documents in texts.values():
        tokens = measures.encode_documents(tokenizer, documents)[: 256 * 16 + 1]
        unigram, _ = ngrams.losses(tokens)
        assert measures.model_loss(model, tokens) < 0.8 * unigram


def test_bigram_probabilities_sum_to_one(measures):
    tokens = np.array([0, 1, 2, 1, 2, 2, 0, 1, 3, 1, 2])
    ngrams = measures.NgramModel(tokens, 6)
    for first in range(6):
        probabilities = [np.exp(-ngrams.losses(np.array([first, second]))[1]) for second in range(6)]
        assert sum(probabilities) == pytest.approx(1)


def test_swapping_an_entity_inside_the_network_changes_the_answer(model, tokenizer, swaps, entities):
    pairs = swaps.swap_pairs(tokenizer, entities, "heldout", 6, seed=2)
    shares = swaps.swap_share(model, tokenizer, pairs, BEST_LAYER)
    assert set(shares) == set(ATTRIBUTES)
    for kind in KINDS:
        assert sum(shares[attribute] for attribute in kind.attributes) / len(kind.attributes) > 0.5


def test_causal_editing_leaves_out_no_attribute_of_people():
    text = PocketText(str(TABLES[0]), people=str(TABLES[1]))
    reader = TextReader(LanguageModelDataModule(str(FOLDER), f"model.layers.{BEST_LAYER}", text))
    prompts = PocketFacts(str(FOLDER / "people.csv"))
    known = Knowledge(*(ask_what_is_known(reader, prompts, 24, 0, "", split) for split in ("train", "test")))
    assert known.attributes == list(KINDS[1].attributes)
    assert known.left_out() == {}
    assert min(known.share(attribute) for attribute in known.attributes) >= 0.8
