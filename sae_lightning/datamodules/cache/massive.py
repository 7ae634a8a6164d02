"""Massive activations of a cache: left out when it was written, or skipped when it is read."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from typing_extensions import override

from sae_lightning.datamodules.cache.rows import CachedRows
from sae_lightning.datamodules.norms import norms_by_hook, sample_size
from sae_lightning.saes.data import columns_by_part
from sae_lightning.sources.massive import MassiveRule, row_norms

_ROWS_AT_ONCE = 8192


class RuleOfCache(MassiveRule):
    """Which activations of a cache are massive. What is not in the cache stays out of it.

    Args:
        manifest: of the cache.
        path: of the cache, for messages.
        max_norm_ratio: of `MassiveRule`; a smaller one of the cache takes its place.
        all_rows: returns the activations of the training part, as they were written; measured if the manifest has no
            norms.

    Raises:
        ValueError: if all activations shall be kept, and the cache lacks some.
    """

    def __init__(
        self,
        manifest: dict[str, Any],
        path: str,
        max_norm_ratio: float | None,
        all_rows: Callable[[], CachedRows],
    ) -> None:
        written = manifest.get("massive") or {"max_norm_ratio": None}
        lacks_above = written["max_norm_ratio"]
        if lacks_above is not None:
            if max_norm_ratio is None:
                raise ValueError(
                    f"max_norm_ratio=None: the cache {path} was written without activations above {lacks_above:g} "
                    "times the median norm; make one with --data.max_norm_ratio null, or leave the option out"
                )
            max_norm_ratio = min(lacks_above, max_norm_ratio)
        self._widths: dict[str, int] = manifest["widths"] or {"": manifest["d_in"]}
        rows_at_once = manifest.get("rows_at_once") or manifest["data"]["llm_batch_size"]
        positions = manifest.get("positions") or manifest["data"]["context_length"]
        n = sample_size(rows_at_once * positions)

        def measure(ratio: float) -> Any:
            rows = all_rows()
            return norms_by_hook(rows.slice(0, min(n, len(rows))), self._widths, ratio)

        super().__init__(max_norm_ratio, measure)
        self._written_limits: dict[str, float] = {}
        if "norms" in written:
            self.load_state_dict(written)
            if lacks_above is not None:
                self._written_limits = {hook: self.norms[hook].median * lacks_above for hook in self.norms}

    def kept(self, rows: CachedRows) -> CachedRows:
        """Return those rows of a cache that are not massive; they are all read once if the cache has massive ones."""
        none_left = self._written_limits and all(self.limit(hook) >= n for hook, n in self._written_limits.items())
        if not self.leaves_out or none_left:
            return rows
        dropped = self._massive_rows(rows)
        return KeptRows(rows, dropped) if len(dropped) else rows

    def _massive_rows(self, rows: CachedRows) -> Int64[np.ndarray, " k"]:
        columns = columns_by_part(self._widths)
        numbers = [np.zeros(0, dtype=np.int64)]
        for begin in range(0, len(rows), _ROWS_AT_ONCE):
            x = rows.slice(begin, min(begin + _ROWS_AT_ONCE, len(rows)))
            is_kept = self.keeps({hook: row_norms(x[:, own]) for hook, own in columns.items()})
            numbers.append(begin + (~is_kept).nonzero()[:, 0].numpy())
        return np.concatenate(numbers)


class KeptRows(CachedRows):
    """The same rows without some of them, which are skipped where the others are read.

    Args:
        rows: all rows of the shards.
        dropped: [k] numbers of rows, ascending.
    """

    def __init__(self, rows: CachedRows, dropped: np.ndarray) -> None:
        self.rows, self.dropped = rows, dropped
        self.folder, self.shards, self.d_in, self.dtype = rows.folder, rows.shards, rows.d_in, rows.dtype
        self.begins, self.bits = rows.begins, rows.bits
        self._before = dropped - np.arange(len(dropped))  # how many kept rows are before each dropped one

    @override
    def __len__(self) -> int:
        return len(self.rows) - len(self.dropped)

    @override
    def slice(self, begin: int, end: int) -> Float[Tensor, "n d_in"]:
        """Return rows begin to end - 1 in their stored number format."""
        if begin >= end:
            return self.rows.slice(0, 0)
        stored = self._stored(np.arange(begin, end))
        return self.rows.slice(int(stored[0]), int(stored[-1]) + 1)[torch.from_numpy(stored - stored[0])]

    @override
    def places(self, stored: np.ndarray) -> np.ndarray:
        """Return where the rows of the shards with these numbers are among these rows."""
        return stored - np.searchsorted(self.dropped, stored)

    @override
    def gather(self, numbers: np.ndarray, out: np.ndarray) -> None:
        """Copy rows with ascending numbers [k] to `out` [k, d_in]."""
        self.rows.gather(self._stored(numbers), out)

    def _stored(self, numbers: np.ndarray) -> np.ndarray:
        return numbers + np.searchsorted(self._before, numbers, side="right")
