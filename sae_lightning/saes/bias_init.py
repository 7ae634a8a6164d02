"""Starts of `b_dec`, the point about which an SAE reconstructs: where the activations lie, or zero.

Activations of language models lie about a point far from zero. From a start at zero an SAE first has to learn that
point, one step of the optimizer at a time, and a baseline whose directions are frozen can do so through `b_dec` alone.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.checks import check_whole

CALIBRATION_SAMPLES = 4096
"""Number of activations from which a location or a scale is estimated: to 1.6 % of the standard deviation."""


class BiasInit(ABC):
    """Start of `b_dec`."""

    def n_samples(self) -> int:
        """Return the number of raw activations that the estimate needs; 0 if it does not depend on the data."""
        return CALIBRATION_SAMPLES

    @abstractmethod
    def location(self, samples: Float[Tensor, "n d_in"]) -> Float[Tensor, " d_in"]:
        """Return the start in the units of the samples, in float64.

        Args:
            samples: raw activations.
        """


class Zero(BiasInit):
    """Zero, wherever the activations lie."""

    def n_samples(self) -> int:
        """Return 0: no activation is needed."""
        return 0

    def location(self, samples: Float[Tensor, "n d_in"]) -> Float[Tensor, " d_in"]:
        """Return zero."""
        return torch.zeros(samples.shape[1], dtype=torch.float64)


class Mean(BiasInit):
    """The mean of the activations, which explains none of their variance and leaves all of it to the latents."""

    def location(self, samples: Float[Tensor, "n d_in"]) -> Float[Tensor, " d_in"]:
        """Return the mean."""
        return _precise(samples).mean(0)


class GeometricMedian(BiasInit):
    """The point with the least mean distance to the activations: a mean that few very large ones do not move.

    Bricken et al. 2023, Towards Monosemanticity. Found by the iteration of Weiszfeld 1937, from the mean.

    Args:
        max_iterations: of that iteration; it ends before where the point moves by less than 1e-6 of the mean distance.
    """

    def __init__(self, max_iterations: int = 100) -> None:
        check_whole(1, max_iterations=max_iterations, hint="such as 100")
        self.max_iterations = max_iterations

    def location(self, samples: Float[Tensor, "n d_in"]) -> Float[Tensor, " d_in"]:
        """Return the geometric median."""
        x = _precise(samples)
        median = x.mean(0)
        for _ in range(self.max_iterations):
            distances = torch.linalg.vector_norm(x - median, dim=1)
            spread = distances.mean()
            if not spread:
                break
            weights = 1 / distances.clamp_min(1e-9 * spread)  # finite also for an activation that lies on the median
            nearer = weights @ x / weights.sum()
            moved = torch.linalg.vector_norm(nearer - median)
            median = nearer
            if moved <= 1e-6 * spread:
                break
        return median


def _precise(samples: Tensor) -> Tensor:
    """Return the samples in float64, on their device if it has that."""
    return (samples.cpu() if samples.device.type == "mps" else samples).double()
