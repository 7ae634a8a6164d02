"""First letters of the words that a tokenizer has: examples that need no data set.

A word is a token of three ASCII letters or more with a blank before it. Words stand in lines as

     mirth has the first letter: M

and each is read at its own token, after other words with their letters, as in Chanin et al. 2024 (arXiv 2409.14507).
A causal model does not see the rest of the line, so one text serves many words: the first lines are examples, and each
line after them is a word to read and an example for the words below it. Departures: there a word has a text of its own
with 10 examples, and all words of the vocabulary are taken; here words that differ in case alone are one word, since
otherwise held-out words would have been trained on, and no letter has more than a set number of words.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae_lightning.datamodules.text_reader import TextReader

_MIN_TRAIN, _MIN_TEST = 20, 10
_MIN_LENGTH = 3
MIN_LETTERS = 5
"""Letters of which a statement can be made: five of five is less than one chance in twenty."""


@dataclass(frozen=True)
class LetterWords:
    """Words and what the model makes of them; the words of each letter are in two sets.

    Args:
        words: [n_words] each once.
        letters: [n_words] lower case.
        is_test: [n_words] whether a word is held out.
        activations: [n_words, d_in] at the token of each word, float32 on the CPU.
        left_out: letters with too few words.
    """

    words: Sequence[str]
    letters: np.ndarray
    is_test: Bool[np.ndarray, " n_words"]
    activations: Float[Tensor, "n_words d_in"]
    left_out: Sequence[str]

    @property
    def alphabet(self) -> list[str]:
        """The letters, in order."""
        return sorted(set(self.letters.tolist()))

    def with_activations(self, activations: Float[Tensor, "n_words d_in"]) -> "LetterWords":
        """Return the same words with other activations, such as those of one hook."""
        return replace(self, activations=activations)


class LetterReader:
    """Draw words, and read them with a model.

    Args:
        reader: reads texts.
        n_train: words of a letter that probes are fitted to, at most.
        n_test: held-out words of a letter, at most.
        n_examples: lines before the first word that is read.

    Raises:
        ValueError: if lines do not fit the context length, or too few letters have enough words.
    """

    def __init__(self, reader: TextReader, n_train: int, n_test: int, n_examples: int) -> None:
        self.reader, self.n_train, self.n_test, self.n_examples = reader, n_train, n_test, n_examples
        self._tokens = vocabulary_words(reader.tokenizer)
        by_letter: dict[str, list[str]] = {}
        for word in self._tokens:
            by_letter.setdefault(word[0].lower(), []).append(word)
        self._by_letter = {letter: by_letter[letter] for letter in sorted(by_letter)}
        numbers = {letter: len({word.lower() for word in words}) for letter, words in self._by_letter.items()}
        if sum(n >= _MIN_TRAIN + _MIN_TEST for n in numbers.values()) < MIN_LETTERS:
            most = ", ".join(f"{n} with {letter}" for letter, n in sorted(numbers.items(), key=lambda x: -x[1])[:3])
            raise ValueError(
                f"first letters need a vocabulary with {_MIN_TRAIN + _MIN_TEST} words or more for each of "
                f"{MIN_LETTERS} letters, and the tokenizer of the model has {len(self._tokens)} whole words"
                f"{f' ({most}, ...)' if most else ''}"
            )
        context = reader.packing.context_length
        longest = max(map(len, reader.read([_line(word) for word in list(self._tokens)[:100]])))
        self._n_lines = context // longest
        if self._n_lines <= n_examples:
            raise ValueError(
                f"n_examples={n_examples}: a text of context_length={context} tokens holds {self._n_lines} lines of "
                f"{longest}, and at least one must be left to read; take fewer examples or a longer context"
            )

    def read(self, draw: int) -> LetterWords:
        """Draw words, and run the model over their lines.

        Args:
            draw: which; another takes other words and splits them otherwise.

        Raises:
            ValueError: if too few letters have words that the model reads as one token each.
        """
        generator = np.random.default_rng([0x1E77E6, draw])
        sets = {False: list[str](), True: list[str]()}
        for words in self._by_letter.values():
            drawn = _one_of_each_case(words, generator)[: self.n_train + self.n_test]
            n_test = round(len(drawn) * self.n_test / (self.n_train + self.n_test))
            sets[True] += drawn[:n_test]
            sets[False] += drawn[n_test:]
        rows: dict[str, tuple[bool, Tensor]] = {}
        for is_test, words in sets.items():
            read = self._activations(
                list(self._texts([words[i] for i in generator.permutation(len(words))], generator))
            )
            rows |= {word: (is_test, row) for word, row in read}
        return _with_enough_words(rows)

    def _texts(self, words: Sequence[str], generator: np.random.Generator) -> Iterator[tuple[str, dict[int, str]]]:
        """Yield texts, and by the character where it begins each word that is read in them."""
        at_once = self._n_lines - self.n_examples
        for begin in range(0, len(words), at_once):
            to_read = words[begin : begin + at_once]
            others = [*words[:begin], *words[begin + at_once :]]
            n_examples = min(self.n_examples, len(others))
            lines = [others[i] for i in generator.choice(len(others), n_examples, replace=False)] + list(to_read)
            text, places = "", dict[int, str]()
            for number, word in enumerate(lines):
                if number >= n_examples:
                    places[len(text) + 1] = word
                text += _line(word)
            yield text, places

    @torch.no_grad()
    def _activations(self, texts: Sequence[tuple[str, Mapping[int, str]]]) -> Iterator[tuple[str, Tensor]]:
        """Yield each word that is one token, and valid, with its activation."""
        readings = self.reader.read([text for text, _ in texts])
        for which, activations, mask in self.reader.activations(readings):
            for i, row, is_valid in zip(which, activations.cpu(), mask.cpu(), strict=True):
                for character, word in texts[i][1].items():
                    token = readings[i].token_at(character)
                    if token is not None and is_valid[token] and readings[i].input_ids[token] == self._tokens[word]:
                        yield word, row[token].clone()


def vocabulary_words(tokenizer: Any) -> dict[str, int]:
    """Return the tokens that are a blank and a word, by the word.

    Args:
        tokenizer: of transformers.
    """
    # What a token is within a text, blank included, shows only behind another one.
    anchor = tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
    before = len(tokenizer.decode(anchor))
    ids = sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))
    texts = tokenizer.batch_decode([[*anchor, i] for i in ids], clean_up_tokenization_spaces=False)
    words: dict[str, int] = {}
    for i, text in zip(ids, texts, strict=True):
        blank, word = text[before : before + 1], text[before + 1 :]
        if blank == " " and len(word) >= _MIN_LENGTH and word.isascii() and word.isalpha():
            words.setdefault(word, i)
    return words


def _line(word: str) -> str:
    return f" {word} has the first letter: {word[0].upper()}\n"


def _one_of_each_case(words: Sequence[str], generator: np.random.Generator) -> list[str]:
    """Return words in random order, and of those that differ in case alone the first."""
    kept: dict[str, str] = {}
    for i in generator.permutation(len(words)):
        kept.setdefault(words[i].lower(), words[i])
    return list(kept.values())


def _with_enough_words(rows: Mapping[str, tuple[bool, Tensor]]) -> LetterWords:
    """Keep the letters that have enough words in both sets."""
    by_letter: dict[str, list[str]] = {}
    for word in rows:
        by_letter.setdefault(word[0].lower(), []).append(word)
    kept, left_out = list[str](), list[str]()
    for letter, own in sorted(by_letter.items()):
        n_test = sum(rows[word][0] for word in own)
        has_enough = n_test >= _MIN_TEST and len(own) - n_test >= _MIN_TRAIN
        kept += own if has_enough else []
        left_out += [] if has_enough else [letter]
    words = LetterWords(
        kept,
        np.array([word[0].lower() for word in kept]),
        np.array([rows[word][0] for word in kept], dtype=bool),
        torch.stack([rows[word][1] for word in kept]) if kept else torch.zeros(0, 0),
        left_out,
    )
    if len(words.alphabet) < MIN_LETTERS:
        raise ValueError(
            f"first letters need {_MIN_TRAIN} training and {_MIN_TEST} held-out words for each of {MIN_LETTERS} "
            f"letters: of the words that the model reads as one token, {len(words.alphabet)} letters have so many; "
            "draw more words (train_words, test_words)"
        )
    return words
