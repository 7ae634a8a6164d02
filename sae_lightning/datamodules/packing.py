"""Documents -> rows of tokens of one length, without padding.

Every document begins with the beginning-of-sequence token (bos, or [CLS] of an encoder such as BERT), or, for a
tokenizer without one, with its end token if it has that. Documents follow one another, share rows and continue in the
next row; attention crosses their borders, as is common when models are trained. A row that does not begin with a
document gets a bos in front as well: without a first token to attend to, the activations of a row differ from those of
running text.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor
from typing_extensions import override

from sae_lightning.checks import check_whole
from sae_lightning.datamodules.background import Background

CHUNKS_AHEAD = 2
"""Chunks of documents that a thread reads and tokenises before they are needed, where there is a thread."""
_DOCUMENTS_AT_FIRST = 16  # so that the first rows come soon; the next chunk has twice as many, and so on
_DOCUMENTS_AT_ONCE = 256
_CHARACTERS_AT_ONCE = 1_000_000


class RowMaker(ABC):
    """How documents become rows of tokens.

    Attributes:
        tokenizer: has `decode`.
        context_length: tokens in a row.
        left_out: what is no valid position, in words.
    """

    tokenizer: Any
    context_length: int
    left_out: str = "special tokens"

    def describe(self) -> dict[str, Any]:
        """Return how text becomes rows, and which tokens are no valid positions."""
        names = ("context_length", "bos_in_every_row", "positions", "left_out")
        own = {name: getattr(self, name) for name in names if hasattr(self, name)}
        return own | {"tokenizer": getattr(self.tokenizer, "name_or_path", type(self.tokenizer).__name__)}

    @abstractmethod
    def mask(self, input_ids: Int64[Tensor, "*batch seq"]) -> Bool[Tensor, "*batch seq"]:
        """Return which positions are valid."""

    @abstractmethod
    def tokenise(self, documents: list[str], continued: bool = False) -> np.ndarray:
        """Return the tokens of documents one after the other.

        Args:
            documents: the texts.
            continued: the first of them goes on with the document before it.
        """

    @abstractmethod
    def cut(self, tokens: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Cut tokens into full rows [context_length]; return these and the tokens that are left over."""


class Packing(RowMaker):
    """Documents one after the other, cut into rows.

    Args:
        tokenizer: a fast transformers tokenizer.
        context_length: tokens in a row, bos included, at least 2.
        bos_in_every_row: put bos in front of rows that do not begin with a document.
        skip_first: positions at the beginning of a row, bos included, that are not valid.
    """

    def __init__(self, tokenizer: Any, context_length: int, bos_in_every_row: bool = True, skip_first: int = 0) -> None:
        check_whole(2, context_length=context_length)
        check_skip_first(skip_first, context_length)
        self.skip_first = skip_first
        self.tokenizer, self.context_length = tokenizer, context_length
        self.bos: int | None = tokenizer.bos_token_id
        if self.bos is None:
            self.bos = tokenizer.cls_token_id
        self.start = self.bos if self.bos is not None else tokenizer.eos_token_id
        self.bos_in_every_row = bos_in_every_row and self.bos is not None
        special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        if self.start is not None:
            special.add(self.start)  # GPT-2 has one token for bos, eos and unk
        self.special = torch.tensor(sorted(special), dtype=torch.int64)

    @override
    def mask(self, input_ids: Int64[Tensor, "*batch seq"]) -> Bool[Tensor, "*batch seq"]:
        """Return which positions are valid: all tokens but the first and the special ones; an unknown word is valid."""
        valid = ~torch.isin(input_ids, self.special)
        valid[..., : self.skip_first] = False
        return valid

    @override
    def tokenise(self, documents: list[str], continued: bool = False) -> np.ndarray:
        """Return the tokens of documents one after the other, each that begins here with its start token."""
        encoded = self.tokenizer(documents, add_special_tokens=False, return_attention_mask=False, verbose=False)
        start = [] if self.start is None else [self.start]
        starts = [[] if continued and i == 0 else start for i in range(len(documents))]
        pairs = zip(starts, encoded["input_ids"], strict=True)
        return np.concatenate([np.array(start + ids, dtype=np.int64) for start, ids in pairs])

    @override
    def cut(self, tokens: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        rows: list[np.ndarray] = []
        begin = 0
        while True:
            prefix = self.bos_in_every_row and begin < len(tokens) and tokens[begin] != self.bos
            end = begin + self.context_length - prefix  # a bos in front takes the place of one token
            if end > len(tokens):
                return rows, tokens[begin:]
            row = tokens[begin:end]
            rows.append(np.concatenate([[self.bos], row]) if prefix else row)
            begin = end


def check_skip_first(skip_first: int, context_length: int) -> None:
    """Refuse to leave out less than no position, or all.

    Raises:
        ValueError: in either case.
    """
    hint = f"and less than the {context_length} positions of a row, such as 2 for the beginning token and the next"
    check_whole(0, skip_first_positions=skip_first, hint=hint)
    if skip_first >= context_length:
        raise ValueError(f"skip_first_positions={skip_first}: expected a whole number, 0 or more, {hint}")


@dataclass(frozen=True)
class _Chunk:
    """Rows made from some documents, and the position in the text after them.

    Args:
        rows: full rows [context_length].
        left: tokens that do not fill a row yet.
        documents: number of documents read to their end in this pass.
        passes: number of times the documents were read to their end.
        rows_in_pass: rows made in this pass.
        characters: of the next document that were read already, where it is a long one.
    """

    rows: list[np.ndarray]
    left: np.ndarray
    documents: int
    passes: int
    rows_in_pass: int
    characters: int = 0


class PackedRows:
    """Endless rows of packed text: after the last document the first comes again, without the last incomplete row.

    The state holds the tokens that were made and not yet returned, and the number of documents that were read: on
    resume these are skipped, not tokenised.

    Args:
        packing: how tokens become rows.
        documents: called with a number; returns the documents from there on.
        on_restart: called with the number of the pass that begins, from 2.
        ahead: chunks of documents that a thread reads and tokenises before they are needed; 0 for no thread.
    """

    def __init__(
        self,
        packing: RowMaker,
        documents: Callable[[int], Iterable[str]],
        on_restart: Callable[[int], None] | None = None,
        ahead: int = 0,
    ) -> None:
        self.packing, self._documents, self._on_restart, self._ahead = packing, documents, on_restart, ahead
        self._rows: list[np.ndarray] = []
        self._chunk = _Chunk([], np.zeros(0, dtype=np.int64), 0, 0, 0)
        self._chunks: Iterator[_Chunk] | None = None

    @property
    def passes(self) -> int:
        """Number of times the documents were read to their end."""
        return self._chunk.passes

    @property
    def next_row(self) -> int:
        """Number of the next row in this pass over the documents."""
        return self._chunk.rows_in_pass - len(self._rows)

    def peek(self, n: int) -> Int64[Tensor, "n seq"]:
        """Return the next n rows without taking them."""
        while len(self._rows) < n:
            if self._chunks is None:
                chunks = _chunks_after(self._chunk, self.packing, self._documents)
                self._chunks = Background(chunks, self._ahead) if self._ahead else chunks
            chunk = next(self._chunks)
            if chunk.passes > self._chunk.passes and self._on_restart is not None:
                self._on_restart(chunk.passes + 1)
            self._chunk = chunk
            self._rows += chunk.rows
        return torch.from_numpy(np.stack(self._rows[:n]))

    def take(self, n: int) -> Int64[Tensor, "n seq"]:
        """Take the next n rows."""
        rows = self.peek(n)
        del self._rows[:n]
        return rows

    def state_dict(self) -> dict[str, Any]:
        """Return the exact position in the text."""
        rows, chunk = self._rows, self._chunk
        return {
            "documents": chunk.documents,
            "passes": chunk.passes,
            "rows": torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, self.packing.context_length).long(),
            "left": torch.from_numpy(chunk.left.copy()),
            "rows_in_pass": chunk.rows_in_pass,
            "characters": chunk.characters,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a saved state."""
        self._rows, self._chunks = list(state["rows"].numpy()), None
        counters = {name: state[name] for name in ("documents", "passes", "rows_in_pass")}
        # Older checkpoints do not have characters.
        self._chunk = _Chunk([], state["left"].numpy(), **counters, characters=state.get("characters", 0))


def _chunks_after(chunk: _Chunk, packing: RowMaker, documents: Callable[[int], Iterable[str]]) -> Iterator[_Chunk]:
    """Yield chunks without end; not a method, since a thread that held a `PackedRows` would keep it alive."""
    at_once = _DOCUMENTS_AT_FIRST
    while True:
        reader = iter(documents(chunk.documents))
        while texts := _next_documents(reader, at_once):
            at_once = min(2 * at_once, _DOCUMENTS_AT_ONCE)
            for part, n_ended, characters in _parts(texts, chunk.characters):
                tokens = packing.tokenise(part, continued=chunk.characters > 0)
                rows, left = packing.cut(np.concatenate([chunk.left, tokens]))
                n_read, in_pass = chunk.documents + n_ended, chunk.rows_in_pass + len(rows)
                chunk = _Chunk(rows, left, n_read, chunk.passes, in_pass, characters)
                yield chunk
        if not chunk.rows_in_pass:
            raise ValueError(
                f"the text has {len(chunk.left)} tokens, less than one row of context_length="
                f"{packing.context_length}: give more text or a smaller context_length"
            )
        chunk = _Chunk([], chunk.left[:0], 0, chunk.passes + 1, 0)
        yield chunk


def _next_documents(reader: Iterator[str], n: int) -> list[str]:
    """Read up to n documents, fewer if they are long."""
    documents: list[str] = []
    characters = 0
    for document in reader:
        documents.append(document)
        characters += len(document)
        if len(documents) == n or characters >= _CHARACTERS_AT_ONCE:
            break
    return documents


def _parts(texts: list[str], begin: int) -> Iterator[tuple[list[str], int, int]]:
    """Yield what is tokenised at once, so that memory does not grow with a document.

    Args:
        texts: documents, of which only the last can be long.
        begin: characters of the first that were read already; more than 0 only where it is long.

    Yields:
        Texts, the number of documents that end with them, and the characters read of the one that does not.
    """
    *short, last = texts
    while len(last) - begin > _CHARACTERS_AT_ONCE:
        whole = begin + _CHARACTERS_AT_ONCE
        space = max(last.rfind(" ", begin + 1, whole), last.rfind("\n", begin + 1, whole))
        end = space if space > 0 else whole
        yield [*short, last[begin:end]], len(short), end
        short, begin = [], end
    yield [*short, last[begin:]], len(short) + 1, 0
