"""Laws of the firing probabilities of synthetic features: one class per law."""

from abc import ABC, abstractmethod

import numpy as np

from sae_lightning.checks import check_between, check_inside


class FiringProbability(ABC):
    """A law of the firing probabilities of synthetic features."""

    @abstractmethod
    def draw(self, n_features: int, rng: np.random.Generator) -> np.ndarray:
        """Return firing probabilities [n_features], float64, each at least 0 and below 1."""


class ConstantProbability(FiringProbability):
    """Every feature fires equally often.

    Args:
        p: probability that a feature fires in a sample, above 0 and below 1.
    """

    def __init__(self, p: float = 0.00625) -> None:
        check_inside(0, 1, p=p, hint="a probability, for example 0.00625")
        self.p = p

    def draw(self, n_features: int, rng: np.random.Generator) -> np.ndarray:
        """Return the same probability for every feature, [n_features]."""
        return np.full(n_features, self.p)


class LogUniformProbability(FiringProbability):
    """Few features fire often and most fire rarely: the logarithm of the probability is uniform.

    Args:
        log10_min: base-10 logarithm of the least probability, below log10_max.
        log10_max: base-10 logarithm of the greatest probability, below 0.
    """

    def __init__(self, log10_min: float = -5.5, log10_max: float = -1.2) -> None:
        check_between(-38, 0, log10_min=log10_min, log10_max=log10_max, hint="the logarithm of a probability")
        if not log10_min < log10_max < 0:
            raise ValueError(f"log10_min={log10_min} and log10_max={log10_max}: expected log10_min < log10_max < 0")
        self.log10_min, self.log10_max = log10_min, log10_max

    def draw(self, n_features: int, rng: np.random.Generator) -> np.ndarray:
        """Draw a probability for every feature, [n_features]."""
        return 10 ** rng.uniform(self.log10_min, self.log10_max, n_features)
