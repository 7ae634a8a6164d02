"""One pass over the data, in the blocks of rows that the model reads at once."""

from collections.abc import Iterator

from torch import Tensor

from sae_lightning.datamodules.model_activations import ModelActivations


def first_pass(datamodule: ModelActivations, split: str, n_samples: int) -> Iterator[Tensor]:
    """Yield blocks of rows [n, row] with `n_samples` valid positions, or all; the data are read at most once.

    Args:
        datamodule: the data.
        split: `train`, which ends with the block that has the last of these positions, or `heldout`, which ends with
            the row that has it.
        n_samples: number of valid positions.
    """
    missing = n_samples
    for rows in datamodule.one_pass(split):
        counts = datamodule.n_valid(rows).cumsum(0)
        yield rows if split == "train" else rows[: int((counts < missing).sum()) + 1]
        missing -= int(counts[-1])
        if missing <= 0:
            return


def in_groups(blocks: Iterator[Tensor], n: int) -> Iterator[list[Tensor]]:
    """Yield lists of n blocks; the last may have fewer."""
    group: list[Tensor] = []
    for block in blocks:
        group.append(block)
        if len(group) == n:
            yield group
            group = []
    if group:
        yield group
