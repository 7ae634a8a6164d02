"""Held-out text cut into excerpts: some for a judge to explain latents from, the others for it to judge.

The text of the rows is cut into excerpts of one length that share no token; those that repeat an earlier one word for
word are left out, and so is the end of a row that fills none. Every other row is shown to judges, and their answers
are scored on the rest: shown and judged texts have no token in common, and none is the same as another.
"""

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from sae_lightning.sources import TokenBatch


@dataclass(frozen=True)
class Excerpt:
    """Consecutive tokens of a row of text.

    Args:
        tokens: their text, one string each.
        start: position of the first of them in the row that the model read.
    """

    tokens: tuple[str, ...]
    start: int

    @property
    def text(self) -> str:
        """The text of all tokens."""
        return "".join(self.tokens)


@dataclass(frozen=True)
class Example:
    """An excerpt and the activations of a latent on it.

    Args:
        excerpt: the text.
        activations: of each token, 0 where the latent does not fire.
    """

    excerpt: Excerpt
    activations: tuple[float, ...]


class Excerpts:
    """All excerpts of some rows of text, by number.

    Args:
        rows: packed text.
        length: tokens in an excerpt, at most those of a row.
        tokenizer: of the model.

    Attributes:
        rows: the text without the ends of rows that fill no excerpt; token t of all is in excerpt t // length.
        start: [n] position of the first token of each excerpt in its row.
        shown: [n] which may be shown.
        judged: [n] which may be judged.
    """

    def __init__(self, rows: TokenBatch, length: int, tokenizer: Any) -> None:
        per_row = rows.input_ids.shape[1] // length
        self.rows = TokenBatch(rows.input_ids[:, : per_row * length], rows.mask[:, : per_row * length])
        self.ids: Int64[Tensor, "n length"] = self.rows.input_ids.reshape(-1, length)
        self.length, self.tokenizer = length, tokenizer
        number = torch.arange(len(self.ids))
        self.start: Int64[Tensor, " n"] = number % per_row * length
        self._row = number // per_row
        first = np.unique(self.ids.numpy(), axis=0, return_index=True)[1]
        self._is_new = torch.zeros(len(self.ids), dtype=torch.bool)
        self._is_new[torch.from_numpy(first)] = True
        self._show(self._row % 2 == 0)

    def _show(self, may_be_shown: Tensor) -> None:
        self.shown: Bool[Tensor, " n"] = self._is_new & may_be_shown
        self.judged: Bool[Tensor, " n"] = self._is_new & ~may_be_shown

    def with_other_halves(self, seed: int) -> "Excerpts":
        """Return the same excerpts, of which a random half of the rows is shown."""
        n_rows = len(self.rows.input_ids)
        order = torch.randperm(n_rows, generator=torch.Generator().manual_seed(seed))
        is_shown = torch.zeros(n_rows, dtype=torch.bool)
        is_shown[order[: -(-n_rows // 2)]] = True
        other = copy(self)
        other._show(is_shown[self._row])
        return other

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> Excerpt:
        return Excerpt(tuple(self._texts[i] for i in self.ids[number].tolist()), int(self.start[number]))

    def take(self, numbers: Iterable[int]) -> list[Excerpt]:
        """Return the excerpts with these numbers."""
        return [self[number] for number in numbers]

    @cached_property
    def _texts(self) -> dict[int, str]:
        """The text of each token that occurs."""
        ids = self.ids.unique().tolist()
        return dict(zip(ids, token_texts(self.tokenizer, ids), strict=True))


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    r"""Return the text of each token as it stands within a text, a space in front included.

    Some tokenizers drop the space in front of what they decode first, so each token is decoded after itself. Of a token
    that is part of a character its bytes are given, such as `\xe2\x80`.
    """
    keep = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    alone = tokenizer.batch_decode([[i] for i in ids], **keep)
    twice = tokenizer.batch_decode([[i, i] for i in ids], **keep)
    texts = [both[len(one) :] for one, both in zip(alone, twice, strict=True)]
    return [_bytes_of(tokenizer, token) if "\ufffd" in text else text for token, text in zip(ids, texts, strict=True)]


def _bytes_of(tokenizer: Any, token: int) -> str:
    """Return a token that is no whole text, with bytes where it has no characters; of a byte-level tokenizer."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    written = str(tokenizer.convert_ids_to_tokens(token))
    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    if not all(character in byte_of for character in written):
        return written
    return bytes(byte_of[character] for character in written).decode("utf-8", errors="backslashreplace")
