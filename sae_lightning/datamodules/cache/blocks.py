"""One pass over the text, cut into the blocks of rows that the model reads at once."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from sae_lightning.datamodules.packing import CHUNKS_AHEAD, PackedRows, Packing
from sae_lightning.sources import TokenBatch


def first_pass(
    packing: Packing,
    documents: Callable[[], Iterable[str]],
    llm_batch_size: int,
    n_tokens: int,
    whole_blocks: bool,
) -> Iterator[TokenBatch]:
    """Blocks of packed rows with `n_tokens` tokens that count, or all there are: the text is read once at most.

    Args:
        packing: how text becomes rows.
        documents: called for the documents from their beginning.
        llm_batch_size: rows in a block; the last may have fewer.
        n_tokens: how many are wanted.
        whole_blocks: end with the block that has the last of them; otherwise with the row.
    """
    rows = PackedRows(packing, lambda _: documents(), ahead=CHUNKS_AHEAD)
    missing = n_tokens
    while missing > 0:
        taken: list[Tensor] = []
        while len(taken) < llm_batch_size:
            row = rows.take(1)
            if rows.passes:
                break
            taken.append(row)
        if not taken:
            return
        input_ids = torch.cat(taken)
        mask = packing.mask(input_ids)
        counts = mask.sum(1).cumsum(0)
        n_rows = len(mask) if whole_blocks else int((counts < missing).sum()) + 1
        yield TokenBatch(input_ids[:n_rows], mask[:n_rows])
        if rows.passes:
            return
        missing -= int(counts[-1])


def in_groups(blocks: Iterator[TokenBatch], n: int) -> Iterator[list[TokenBatch]]:
    """Lists of n blocks; the last may have fewer."""
    group: list[TokenBatch] = []
    for block in blocks:
        group.append(block)
        if len(group) == n:
            yield group
            group = []
    if group:
        yield group
