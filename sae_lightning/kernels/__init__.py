"""Exact sparse selection and sparse products."""

from sae_lightning.kernels.pre_acts import PreActs
from sae_lightning.kernels.select import entries_above, largest_code, largest_per_row, top_k_of_batch, top_k_per_row
from sae_lightning.kernels.sparse import sparse_decode, sparse_encode, transposed_times

__all__ = [
    "PreActs",
    "entries_above",
    "largest_code",
    "largest_per_row",
    "sparse_decode",
    "sparse_encode",
    "top_k_of_batch",
    "top_k_per_row",
    "transposed_times",
]
