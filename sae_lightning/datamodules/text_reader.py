"""`TextReader`: texts of one's own through the model of a datamodule, as training reads its text.

A text begins with the start token of its model, ends at the run's context length, and stands in a row of its own. Rows
are batched by length, so that there is no padding, and with it no attention mask and no difference between models.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_lightning.sources import TokenBatch


@dataclass(frozen=True)
class Reading:
    """The tokens of one text.

    Args:
        input_ids: [seq].
        spans: [seq, 2] first character of each token in the text and the one after its last; a special token has none.
        mask: [seq] True for valid tokens: all that are not special.
    """

    input_ids: Int64[Tensor, " seq"]
    spans: Int64[Tensor, "seq 2"]
    mask: Bool[Tensor, " seq"]

    def __len__(self) -> int:
        return len(self.input_ids)

    def token_at(self, character: int) -> int | None:
        """Return the index of the token that holds this character; None where the text was cut before it."""
        held = (self.spans[:, 0] <= character) & (character < self.spans[:, 1])
        return int(held.nonzero()[0, 0]) if held.any() else None


class TextReader:
    """Read texts with the model and the tokenizer of a datamodule.

    Args:
        datamodule: a LanguageModelDataModule or CachedActivations.
    """

    def __init__(self, datamodule: Any) -> None:
        self.source, self.packing = datamodule.source, datamodule.packing
        self.tokenizer = self.packing.tokenizer
        self.batch_size: int = datamodule.llm_batch_size

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """Return the tokens of each text, cut at the context length."""
        start = [] if self.packing.start is None else [self.packing.start]
        encoded = self.tokenizer(
            list(texts),
            add_special_tokens=False,
            return_offsets_mapping=True,
            truncation=True,
            max_length=self.packing.context_length - len(start),
            return_attention_mask=False,
            verbose=False,
        )
        readings = []
        for ids, spans in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            input_ids = torch.tensor(start + list(ids), dtype=torch.int64)
            placed = torch.tensor([(0, 0)] * len(start) + list(spans), dtype=torch.int64).reshape(-1, 2)
            readings.append(Reading(input_ids, placed, self.packing.mask(input_ids)))
        return readings

    def batches(self, readings: Sequence[Reading]) -> Iterator[tuple[list[int], TokenBatch]]:
        """Yield rows of equal length, and which of the readings they are; the empty ones are in no batch."""
        by_length: dict[int, list[int]] = {}
        for i, reading in enumerate(readings):
            by_length.setdefault(len(reading), []).append(i)
        by_length.pop(0, None)
        for length in sorted(by_length):
            equally_long = by_length[length]
            for begin in range(0, len(equally_long), self.batch_size):
                which = equally_long[begin : begin + self.batch_size]
                yield (
                    which,
                    TokenBatch(
                        torch.stack([readings[i].input_ids for i in which]),
                        torch.stack([readings[i].mask for i in which]),
                    ),
                )

    def activations(
        self, readings: Sequence[Reading]
    ) -> Iterator[tuple[list[int], Float[Tensor, "batch seq d_in"], Bool[Tensor, "batch seq"]]]:
        """Yield which readings a batch has, their activations in float32 on the model's device, and their mask."""
        for which, batch in self.batches(readings):
            activations, mask = self.source.capture(batch)
            yield which, activations.float(), mask
