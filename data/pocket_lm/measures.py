"""Measures of the pocket language model: loss against n-gram models, and facts completed."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import sae_lightning  # noqa: F401  # isort: skip  (first: transformers may find a torchvision that fails to load)

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sae_lightning.pocket.facts import Entity, FactPrompt, fact_sentences
from sae_lightning.pocket.library import standard_library_documents

CONTEXT = 256
ANSWER_TOKENS = 8


def encode_documents(tokenizer: PreTrainedTokenizerBase, documents: Iterable[str]) -> np.ndarray:
    """Join documents into one row of token ids, each between the start and the end token."""
    texts = list(documents)
    ids = tokenizer(texts, add_special_tokens=True, verbose=False)["input_ids"] if texts else []
    return np.fromiter((token for row in ids for token in [*row, tokenizer.eos_token_id]), dtype=np.int64)


def heldout_tokens(tokenizer: PreTrainedTokenizerBase, entities: Sequence[Entity], most: int) -> dict[str, np.ndarray]:
    """Encode held-out library text and held-out fact sentences, at most `most` tokens of each."""
    library = encode_documents(tokenizer, standard_library_documents("heldout"))
    sentences = encode_documents(tokenizer, fact_sentences(entities, "heldout", seed=0))
    return {"library": library[:most], "facts": sentences[:most]}


@torch.inference_mode()
def model_loss(model: PreTrainedModel, tokens: np.ndarray, batch: int = 16) -> float:
    """Return the mean loss in nats per token, over windows of the model's context length."""
    rows = torch.from_numpy(tokens[: (len(tokens) - 1) // CONTEXT * CONTEXT + 1])
    inputs, targets = rows[:-1].view(-1, CONTEXT), rows[1:].view(-1, CONTEXT)
    total = 0.0
    for start in range(0, len(inputs), batch):
        logits = model(input_ids=inputs[start : start + batch], use_cache=False).logits.float()
        chunk = targets[start : start + batch]
        total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), chunk.flatten(), reduction="sum").item()
    return total / targets.numel()


class NgramModel:
    """A unigram model with add-one counts, and a bigram model that backs off to it by absolute discounting."""

    def __init__(self, tokens: np.ndarray, vocabulary: int, discount: float = 0.75) -> None:
        self.unigram = (np.bincount(tokens, minlength=vocabulary) + 1.0) / (len(tokens) + vocabulary)
        self.vocabulary, self.discount = vocabulary, discount
        self.pairs, self.pair_counts = np.unique(tokens[:-1] * vocabulary + tokens[1:], return_counts=True)
        self.followers = np.bincount(self.pairs // vocabulary, minlength=vocabulary)
        self.first_counts = np.bincount(tokens[:-1], minlength=vocabulary)

    def losses(self, tokens: np.ndarray) -> tuple[float, float]:
        """Return the mean unigram and bigram loss in nats per token."""
        firsts, seconds = tokens[:-1], tokens[1:]
        keys = firsts * self.vocabulary + seconds
        places = np.minimum(np.searchsorted(self.pairs, keys), len(self.pairs) - 1)
        counts = np.where(self.pairs[places] == keys, self.pair_counts[places], 0)
        total = self.first_counts[firsts]
        seen = np.maximum(total, 1)
        backoff = np.where(total > 0, self.discount * self.followers[firsts] / seen, 1.0)
        bigram = np.maximum(counts - self.discount, 0) / seen + backoff * self.unigram[seconds]
        return float(-np.log(self.unigram[seconds]).mean()), float(-np.log(bigram).mean())


def is_answer(text: str, answer: str) -> bool:
    """Return whether a continuation begins with the whole answer, followed by no further letter."""
    rest = text.removeprefix(f" {answer}")
    return rest != text and not rest[:1].isalpha()


def _groups(lengths: Sequence[int], batch: int) -> Iterable[list[int]]:
    """Yield batches of indices of sequences with equal lengths, which need no padding."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, length in enumerate(lengths):
        by_length[length].append(index)
    for members in by_length.values():
        for start in range(0, len(members), batch):
            yield members[start : start + batch]


@torch.inference_mode()
def complete(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], batch: int = 256
) -> list[str]:
    """Continue every prompt greedily by a few tokens."""
    ids = tokenizer(list(prompts))["input_ids"]
    texts = [""] * len(ids)
    for members in _groups([len(row) for row in ids], batch):
        inputs = torch.tensor([ids[index] for index in members])
        new = model.generate(
            inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=ANSWER_TOKENS, do_sample=False
        )
        for index, row in zip(members, new[:, inputs.shape[1] :], strict=True):
            texts[index] = tokenizer.decode(row, skip_special_tokens=True)
    return texts


def fact_accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[FactPrompt]
) -> dict[str, float]:
    """Return the share of prompts whose greedy continuation is the whole answer, for each attribute."""
    texts = complete(model, tokenizer, [prompt.prompt for prompt in prompts])
    hits: dict[str, list[bool]] = defaultdict(list)
    for prompt, text in zip(prompts, texts, strict=True):
        hits[prompt.attribute].append(is_answer(text, prompt.answer))
    return {attribute: sum(values) / len(values) for attribute, values in hits.items()}


def majority_accuracy(entities: Sequence[Entity]) -> dict[str, float]:
    """Return the share of entities that have the most frequent value, for each attribute."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for entity in entities:
        for attribute, value in entity.values.items():
            counts[attribute][value] += 1
    return {attribute: max(counter.values()) / counter.total() for attribute, counter in counts.items()}
