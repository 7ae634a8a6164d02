"""Documents -> rows of tokens of one length, without padding.

Every document begins with the beginning-of-sequence token (bos), or, for a tokenizer without one, with its end token if
it has that. Documents follow one another, share rows and go on in the next row; attention crosses their borders, as is
common when models are trained. A row that does not begin with a document gets a bos in front as well: without a first
token to attend to, the activations of a row differ from those of running text.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

_DOCUMENTS_AT_ONCE = 256
_CHARACTERS_AT_ONCE = 1_000_000


class Packing:
    """How a tokenizer's output becomes rows.

    Args:
        tokenizer: a fast transformers tokenizer.
        context_length: tokens in a row, bos included, at least 2.
        bos_in_every_row: put bos in front of rows that do not begin with a document.
    """

    def __init__(self, tokenizer: Any, context_length: int, bos_in_every_row: bool = True) -> None:
        if context_length < 2:
            raise ValueError(f"context_length={context_length}: expected at least 2")
        self.tokenizer, self.context_length = tokenizer, context_length
        self.bos: int | None = tokenizer.bos_token_id
        self.start = self.bos if self.bos is not None else tokenizer.eos_token_id
        self.bos_in_every_row = bos_in_every_row and self.bos is not None
        special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        if self.start is not None:
            special.add(self.start)  # GPT-2 has one token for bos, eos and unk
        self.special = torch.tensor(sorted(special), dtype=torch.int64)

    def mask(self, input_ids: Int64[Tensor, "batch seq"]) -> Bool[Tensor, "batch seq"]:
        """True on positions that count: every token that is not special; an unknown word counts."""
        return ~torch.isin(input_ids, self.special)

    def tokenise(self, documents: list[str]) -> np.ndarray:
        """Tokens of documents one after the other, each with its start token."""
        encoded = self.tokenizer(documents, add_special_tokens=False, return_attention_mask=False, verbose=False)
        start = [] if self.start is None else [self.start]
        return np.concatenate([np.array(start + ids, dtype=np.int64) for ids in encoded["input_ids"]])

    def cut(self, tokens: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Full rows [context_length], and the tokens that are left over."""
        rows: list[np.ndarray] = []
        begin = 0
        while True:
            prefix = self.bos_in_every_row and begin < len(tokens) and tokens[begin] != self.bos
            end = begin + self.context_length - prefix
            if end > len(tokens):
                return rows, tokens[begin:]
            row = tokens[begin:end]
            rows.append(np.concatenate([[self.bos], row]) if prefix else row)
            begin = end


class PackedRows:
    """Endless rows of packed text: after the last document it begins again, without the last incomplete row.

    Its state holds the tokens that were made and not yet given out, and the number of documents that were read: on
    resume these are skipped, not tokenised.

    Args:
        packing: how tokens become rows.
        documents: called for the documents from their beginning.
        on_restart: called with the number of the pass that begins, from 2.

    Attributes:
        passes: times the documents were read to their end.
    """

    def __init__(
        self, packing: Packing, documents: Callable[[], Iterable[str]], on_restart: Callable[[int], None] | None = None
    ) -> None:
        self.packing, self._documents, self._on_restart = packing, documents, on_restart
        self.passes = 0
        self._rows: list[np.ndarray] = []
        self._next = 0
        self._left = np.zeros(0, dtype=np.int64)
        self._rows_in_pass = 0
        self._n_read = 0
        self._reader: Iterator[str] | None = None

    def take(self, n: int) -> Int64[Tensor, "n seq"]:
        """The next n rows."""
        taken: list[np.ndarray] = []
        while len(taken) < n:
            if self._next == len(self._rows):
                self._refill()
            part = self._rows[self._next : self._next + n - len(taken)]
            self._next += len(part)
            taken += part
        return torch.from_numpy(np.stack(taken))

    def state_dict(self) -> dict[str, Any]:
        """Exact position in the text."""
        rows = self._rows[self._next :]
        return {
            "documents": self._n_read,
            "passes": self.passes,
            "rows": torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, self.packing.context_length).long(),
            "left": torch.from_numpy(self._left.copy()),
            "rows_in_pass": self._rows_in_pass,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a position."""
        self._n_read, self.passes, self._rows_in_pass = state["documents"], state["passes"], state["rows_in_pass"]
        self._rows, self._next = list(state["rows"].numpy()), 0
        self._left = state["left"].numpy()
        self._reader = islice(iter(self._documents()), self._n_read, None)

    def _refill(self) -> None:
        while self._next == len(self._rows):
            documents = self._read_documents()
            if documents:
                tokens = self.packing.tokenise(documents)
                self._rows, self._left = self.packing.cut(np.concatenate([self._left, tokens]))
                self._next = 0
                self._rows_in_pass += len(self._rows)
            else:
                self._begin_again()

    def _read_documents(self) -> list[str]:
        if self._reader is None:
            self._reader = iter(self._documents())
        documents: list[str] = []
        characters = 0
        for document in self._reader:
            documents.append(document)
            characters += len(document)
            if len(documents) == _DOCUMENTS_AT_ONCE or characters >= _CHARACTERS_AT_ONCE:
                break
        self._n_read += len(documents)
        return documents

    def _begin_again(self) -> None:
        if not self._rows_in_pass:
            raise ValueError(
                f"the text has {len(self._left)} tokens, less than one row of context_length="
                f"{self.packing.context_length}: give more text or a smaller context_length"
            )
        self.passes += 1
        self._reader, self._left, self._n_read, self._rows_in_pass = None, self._left[:0], 0, 0
        if self._on_restart is not None:
            self._on_restart(self.passes + 1)
