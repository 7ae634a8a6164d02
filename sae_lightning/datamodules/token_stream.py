"""Text -> model -> buffer -> batches: the streams of activations of a language model."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from typing_extensions import override

from sae_lightning.datamodules.buffer import BufferedStream, ShuffleBuffer
from sae_lightning.datamodules.packing import PackedRows
from sae_lightning.sources import ActivationSource, NonFiniteError, TokenBatch


class TokenStream(BufferedStream):
    """Shuffled activations of this rank's rows of text.

    The text is read in blocks of `llm_batch_size` rows, one model forward each; of every `world_size` blocks a rank
    takes the one with its number. So the forwards, and their results to the last bit, do not depend on the number of
    ranks.

    Args:
        source: the model and the hook.
        rows: packed text.
        buffer: the pool that activations are drawn from, with room for two model batches or more.
        batch_size: activations in a batch.
        llm_batch_size: rows of text in a forward of the model.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        source: ActivationSource,
        rows: PackedRows,
        buffer: ShuffleBuffer,
        batch_size: int,
        llm_batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(buffer, batch_size, llm_batch_size * rows.packing.context_length)
        self.source, self.rows = source, rows
        self.llm_batch_size, self.rank, self.world_size = llm_batch_size, rank, world_size

    @override
    def next_block(self) -> Float[Tensor, "n d_in"]:
        n_rows = self.llm_batch_size * self.world_size
        input_ids = self.rows.peek(n_rows).tensor_split(self.world_size)[self.rank]
        inputs = TokenBatch(input_ids, self.rows.packing.mask(input_ids))
        try:
            with torch.inference_mode():
                activations = valid_activations(self.source, inputs)
        except NonFiniteError as error:
            raise ValueError(f"{error}. {self._where(input_ids, *error.position)}") from error
        self.count(int(inputs.mask.sum()), len(activations))
        self.rows.take(n_rows)  # only now: after a forward that failed the same rows come again
        return activations

    def _where(self, input_ids: Tensor, row: int, position: int) -> str:
        """Describe a position by its row, its token and the text that ends there."""
        text = self.rows.packing.tokenizer.decode(input_ids[row, max(0, position - 20) : position + 1])
        number = self.rows.next_row + self.rank * self.llm_batch_size + row
        return f"The first: row {number} of packed text, token {position}, at the end of {text!r}"

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows.state_dict(), **super().state_dict()}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows.load_state_dict(state["rows"])
        super().load_state_dict(state)


def valid_activations(source: ActivationSource, inputs: Any) -> Float[Tensor, "n d_in"]:
    """Return the activations at valid positions, in the model's dtype."""
    return valid_activations_and_mask(source, inputs)[0]


def valid_activations_and_mask(
    source: ActivationSource, inputs: Any
) -> tuple[Float[Tensor, "n d_in"], Bool[Tensor, "batch seq"]]:
    """Return the activations at valid positions, in the model's dtype, and the mask of these positions."""
    if not len(inputs.mask):  # none of these images can be decoded
        return torch.zeros(0, source.d_in, device=source.device), inputs.mask
    activations, mask = source.capture(inputs)
    return activations[mask], mask


def in_batches(parts: Iterator[Tensor], batch_size: int) -> Iterator[Float[Tensor, "batch d_in"]]:
    """Yield the rows of tensors one after the other in full batches, float32; an incomplete last one is dropped."""
    rest = next(parts)
    while True:
        while len(rest) < batch_size:
            if (part := next(parts, None)) is None:
                return
            rest = torch.cat([rest, part])
        yield rest[:batch_size].float()
        rest = rest[batch_size:]
