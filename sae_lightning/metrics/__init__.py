"""Metrics: pure functions, and torchmetrics classes that hold their sums."""

from sae_lightning.metrics.dictionary import (
    best_cosine,
    best_match,
    cosine_to_start,
    evenly_spaced_rows,
    matched_cosine,
    nearest_other,
    recovered_fraction,
    uniqueness,
)
from sae_lightning.metrics.firing import FiringMatch
from sae_lightning.metrics.reconstruction import CosineSimilarity, ExplainedVariance, MeanPrediction, RelativeNorm
from sae_lightning.metrics.sparsity import Sparsity
from sae_lightning.metrics.token_loss import TokenLoss

__all__ = [
    "CosineSimilarity",
    "ExplainedVariance",
    "FiringMatch",
    "MeanPrediction",
    "RelativeNorm",
    "Sparsity",
    "TokenLoss",
    "best_cosine",
    "best_match",
    "cosine_to_start",
    "evenly_spaced_rows",
    "matched_cosine",
    "nearest_other",
    "recovered_fraction",
    "uniqueness",
]
