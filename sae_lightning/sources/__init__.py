"""Where activations come from."""

from sae_lightning.sources.base import ActivationSource, NonFiniteError
from sae_lightning.sources.clip import ClipSource
from sae_lightning.sources.dependence import (
    CorrelatedFiring,
    Dependence,
    Firings,
    HierarchicalFiring,
    IndependentFirings,
)
from sae_lightning.sources.hooked import HookedModel
from sae_lightning.sources.image_batch import ImageBatch
from sae_lightning.sources.language_model import LanguageModelSource
from sae_lightning.sources.null_source import NullSource
from sae_lightning.sources.nulls import (
    GaussianMatched,
    Null,
    RandomDirections,
    RandomRotation,
    RedrawnModules,
    Reinitialised,
    ShuffledDimensions,
    ShuffledHooks,
)
from sae_lightning.sources.probability import ConstantProbability, FiringProbability, LogUniformProbability
from sae_lightning.sources.synthetic import SyntheticSource
from sae_lightning.sources.tokens import TokenBatch

__all__ = [
    "ActivationSource",
    "ClipSource",
    "ConstantProbability",
    "CorrelatedFiring",
    "Dependence",
    "FiringProbability",
    "Firings",
    "GaussianMatched",
    "HierarchicalFiring",
    "HookedModel",
    "ImageBatch",
    "IndependentFirings",
    "LanguageModelSource",
    "LogUniformProbability",
    "NonFiniteError",
    "Null",
    "NullSource",
    "RandomDirections",
    "RandomRotation",
    "RedrawnModules",
    "Reinitialised",
    "ShuffledDimensions",
    "ShuffledHooks",
    "SyntheticSource",
    "TokenBatch",
]
