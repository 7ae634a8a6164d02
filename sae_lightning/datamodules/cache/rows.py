"""Activations of many shards as one sequence of rows, read through the page cache without a copy of the files."""

import mmap
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors import safe_open
from torch import Tensor

from sae_lightning.datamodules.cache.manifest import Shard, layout
from sae_lightning.sources import TokenBatch

_ROWS_AT_ONCE = 16_384


class CachedRows:
    """The activations of consecutive shards, [n, d_in].

    Args:
        folder: where the shards are.
        shards: in the order of the text.
        dtype: name of the number format in torch.
        d_in: width of an activation.
        in_order: whether rows are mostly read from the beginning to the end, and not in random order.
    """

    def __init__(self, folder: Path, shards: Sequence[Shard], dtype: str, d_in: int, in_order: bool) -> None:
        self.folder, self.shards, self.d_in, self.dtype = folder, shards, d_in, getattr(torch, dtype)
        self.begins = np.cumsum([0, *(shard.tokens for shard in shards)])
        self.bits = np.dtype(f"i{self.dtype.itemsize}")  # numpy has no bfloat16, and nothing is computed here
        advice = _advice(sum(shard.bytes for shard in shards), in_order)
        self._arrays = []
        for shard in shards:
            where = layout(folder / shard.file, shard, dtype, d_in)
            with (folder / shard.file).open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # torch warns of read-only memory
            if advice is not None:
                mapped.madvise(advice)
            flat = np.frombuffer(mapped, self.bits, where.nbytes // self.bits.itemsize, where.begin)
            self._arrays.append(flat.reshape(shard.tokens, d_in))

    def __len__(self) -> int:
        return int(self.begins[-1])

    def slice(self, begin: int, end: int) -> Float[Tensor, "n d_in"]:
        """Return rows begin to end - 1 in their stored number format."""
        # The shards of the first and of the last row; an empty slice is cut from one shard.
        first, last = np.searchsorted(self.begins, [begin, max(begin, end - 1)], side="right") - 1
        parts = [self._arrays[i][max(begin - self.begins[i], 0) : end - self.begins[i]] for i in range(first, last + 1)]
        return torch.from_numpy(np.concatenate(parts)).view(self.dtype)

    def places(self, stored: np.ndarray) -> np.ndarray:
        """Return where the rows of the shards with these numbers are among these rows."""
        return stored

    def find_non_finite(self) -> str | None:
        """Name the first number that is NaN or infinite; None if all are finite."""
        for shard, first in zip(self.shards, self.begins, strict=False):
            for begin in range(0, shard.tokens, _ROWS_AT_ONCE):
                rows = self.slice(int(first) + begin, int(first) + min(begin + _ROWS_AT_ONCE, shard.tokens))
                if not torch.isfinite(torch.stack(torch.aminmax(rows))).all():
                    row, dimension = (~torch.isfinite(rows)).nonzero()[0].tolist()
                    return (
                        f"{self.folder / shard.file}, activation {begin + row}, dimension {dimension} is "
                        f"{rows[row, dimension].item()}; remove this shard and run the `sae cache` command of the "
                        "cache again, which makes it anew"
                    )
        return None

    def gather(self, numbers: np.ndarray, out: np.ndarray) -> None:
        """Copy rows with ascending numbers [k] to `out` [k, d_in] of type `bits`; other threads run meanwhile."""
        borders = np.searchsorted(numbers, self.begins)
        for array, first, begin, end in zip(self._arrays, self.begins, borders, borders[1:], strict=False):
            if begin < end:  # "clip" spares numpy a buffer; there is nothing to clip
                np.take(array, numbers[begin:end] - first, axis=0, out=out[begin:end], mode="clip")


class CachedBlocks:
    """The same activations by forwards of the model: block i has the activations of `llm_batch_size` rows of text.

    Args:
        rows: activations of all shards.
        llm_batch_size: rows of text in a block; every shard but the last holds a multiple of it.
    """

    def __init__(self, rows: CachedRows, llm_batch_size: int) -> None:
        self.rows, self.llm_batch_size = rows, llm_batch_size
        self._n_blocks = [-(-shard.rows // llm_batch_size) for shard in rows.shards]
        self._offsets = lru_cache(maxsize=2)(self._offsets_in_shard)

    def __len__(self) -> int:
        return sum(self._n_blocks)

    def __getitem__(self, block: int) -> Float[Tensor, "n d_in"]:
        """Return the activations of a block; after the last block the first comes again."""
        shard, block = divmod(block % len(self), self._n_blocks[0])
        begin, end = self._offsets(shard)[block : block + 2]
        return self.rows.slice(begin, end)

    def _offsets_in_shard(self, shard: int) -> list[int]:
        counts = read_stored(self.rows.folder, self.rows.shards[shard]).sum(1)
        blocks = [int(part.sum()) for part in counts.split(self.llm_batch_size)]
        return self.rows.places(self.rows.begins[shard] + np.cumsum([0, *blocks])).tolist()


def read_text(folder: Path, shards: Sequence[Shard]) -> TokenBatch:
    """Read tokens and mask of all rows of shards; massive positions are in the mask, also where they were left out."""
    ids, masks = [], []
    for shard in shards:
        with safe_open(folder / shard.file, framework="pt") as file:
            ids.append(file.get_tensor("input_ids").long())
            masks.append(file.get_tensor("mask"))
    return TokenBatch(torch.cat(ids), torch.cat(masks))


def read_stored(folder: Path, shard: Shard) -> Bool[Tensor, "rows seq"]:
    """Return the positions whose activations are in a shard: the valid ones without those that were left out."""
    with safe_open(folder / shard.file, framework="pt") as file:
        mask: Tensor = file.get_tensor("mask")
        return mask & ~file.get_tensor("massive") if "massive" in file.keys() else mask  # noqa: SIM118 - no mapping


def _advice(nbytes: int, in_order: bool) -> int | None:
    """Return what to advise the system about the reads to come, where it takes advice.

    In files larger than memory, random reads should not read ahead: the rows beside the requested ones would be dropped
    before they are needed. In smaller files they stay in memory until then.
    """
    if not hasattr(mmap, "MADV_RANDOM"):
        return None
    if in_order:
        return mmap.MADV_SEQUENTIAL
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return mmap.MADV_RANDOM if nbytes > memory // 2 else None
