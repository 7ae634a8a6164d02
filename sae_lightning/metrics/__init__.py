"""Metrics: pure functions, and torchmetrics classes that hold their sums."""

from sae_lightning.metrics.dictionary import best_cosine, cosine_to_start, recovered_fraction
from sae_lightning.metrics.reconstruction import CosineSimilarity, ExplainedVariance, MeanPrediction, RelativeNorm
from sae_lightning.metrics.sparsity import Sparsity
from sae_lightning.metrics.token_loss import TokenLoss

__all__ = [
    "CosineSimilarity",
    "ExplainedVariance",
    "MeanPrediction",
    "RelativeNorm",
    "Sparsity",
    "TokenLoss",
    "best_cosine",
    "cosine_to_start",
    "recovered_fraction",
]
