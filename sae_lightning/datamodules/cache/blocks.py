"""One pass over the data, in the blocks of rows that the model reads at once."""

from collections.abc import Iterator

from torch import Tensor

from sae_lightning.datamodules.model_activations import ModelActivations


def first_pass(datamodule: ModelActivations, split: str, n_samples: int) -> Iterator[Tensor]:
    """Blocks of rows [n, row] with `n_samples` positions that count, or all there are: the data are read once at most.

    Args:
        datamodule: whose data.
        split: `train`, which ends with the block that has the last of them, or `heldout`, which ends with the row.
        n_samples: how many are wanted.
    """
    missing = n_samples
    for rows in datamodule.one_pass(split):
        counts = datamodule.n_counted(rows).cumsum(0)
        yield rows if split == "train" else rows[: int((counts < missing).sum()) + 1]
        missing -= int(counts[-1])
        if missing <= 0:
            return


def in_groups(blocks: Iterator[Tensor], n: int) -> Iterator[list[Tensor]]:
    """Lists of n blocks; the last may have fewer."""
    group: list[Tensor] = []
    for block in blocks:
        group.append(block)
        if len(group) == n:
            yield group
            group = []
    if group:
        yield group
