"""Exact sparse selection and sparse products."""

from sae_lightning.kernels.select import entries_above, top_k_of_batch, top_k_per_row
from sae_lightning.kernels.sparse import sparse_decode, sparse_encode

__all__ = ["entries_above", "sparse_decode", "sparse_encode", "top_k_of_batch", "top_k_per_row"]
