"""How decoder directions start: a class per choice; unit rows that depend on the generator and the samples alone.

Isotropic and covariance-matched are the two starts of Korznikov et al. 2026, arXiv 2602.14111.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from sae_lightning.metrics.random_dictionary import isotropic_directions


class DecoderInit(ABC):
    """Start of the decoder directions."""

    def look_at(self, datamodule: Any) -> None:  # noqa: B027
        """Takes from the data module what else it needs, before `directions`; called where it needs samples."""

    def n_samples(self, d_in: int) -> int:
        """How many raw activations are needed; 0 when the start does not depend on the data."""
        return 0

    @abstractmethod
    def directions(
        self, d_sae: int, d_in: int, generator: torch.Generator, samples: Float[Tensor, "n d_in"] | None
    ) -> Float[Tensor, "d_sae d_in"]:
        """Unit rows, drawn on the CPU in float32."""


class Isotropic(DecoderInit):
    """Uniform on the unit sphere."""

    def directions(
        self, d_sae: int, d_in: int, generator: torch.Generator, samples: Float[Tensor, "n d_in"] | None = None
    ) -> Float[Tensor, "d_sae d_in"]:
        """Unit rows without preferred direction."""
        return isotropic_directions(d_sae, d_in, generator)


class CovarianceMatched(DecoderInit):
    """Drawn from N(0, covariance of the activations), then normalised; the covariance is taken about the mean.

    Args:
        samples_per_dimension: activations used for the estimate, per dimension of the activation (10 or more).
    """

    def __init__(self, samples_per_dimension: int = 20) -> None:
        if samples_per_dimension < 1:
            raise ValueError(f"samples_per_dimension={samples_per_dimension}: expected 1 or more; 10 to 50 is usual")
        self.samples_per_dimension = samples_per_dimension

    def n_samples(self, d_in: int) -> int:
        """Samples for the estimate of the covariance."""
        return self.samples_per_dimension * d_in

    def directions(
        self, d_sae: int, d_in: int, generator: torch.Generator, samples: Float[Tensor, "n d_in"] | None
    ) -> Float[Tensor, "d_sae d_in"]:
        """Unit rows with the principal directions of the data."""
        if samples is None:
            raise ValueError("CovarianceMatched needs activations: call initialise(seed, samples)")
        centred = samples.double().cpu() - samples.double().cpu().mean(0)
        variance, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
        scaled_axes = axes * variance.clamp_min(0).sqrt()
        noise = torch.randn(d_sae, d_in, generator=generator).double()
        return normalize(noise @ scaled_axes.T, dim=1).float()


class DataPoints(DecoderInit):
    """Directions of randomly chosen activations from their mean."""

    def n_samples(self, d_in: int) -> int:
        """Enough to choose from, without taking the direction of one activation for many latents."""
        return 64 * d_in

    def directions(
        self, d_sae: int, d_in: int, generator: torch.Generator, samples: Float[Tensor, "n d_in"] | None
    ) -> Float[Tensor, "d_sae d_in"]:
        """Unit rows towards data points; points are used again only when there are fewer of them than latents."""
        if samples is None:
            raise ValueError("DataPoints needs activations: call initialise(seed, samples)")
        rounds = -(-d_sae // len(samples))
        chosen = torch.cat([torch.randperm(len(samples), generator=generator) for _ in range(rounds)])[:d_sae]
        centred = (samples - samples.mean(0)).float().cpu()
        return normalize(centred[chosen], dim=1)


class TrueFeatures(DecoderInit):
    """The features that synthetic data are made of: the start of an oracle.

    With fewer latents than features those that fire most often are taken; with more, the others are isotropic.
    """

    def __init__(self) -> None:
        self.features: Tensor | None = None

    def n_samples(self, d_in: int) -> int:
        """It is the data module that is needed; asking for a sample says so."""
        return 1

    def look_at(self, datamodule: Any) -> None:
        """Takes the features of a synthetic source, most frequent first."""
        source: Any = getattr(datamodule, "source", None)
        if getattr(source, "features", None) is None:
            raise ValueError(
                "TrueFeatures needs data whose true features are known, and "
                f"data={type(datamodule).__name__} has none: take SyntheticDataModule, or another start"
            )
        by_frequency = source.firing_probabilities.argsort(descending=True, stable=True)
        self.features = source.features[by_frequency]

    def directions(
        self, d_sae: int, d_in: int, generator: torch.Generator, samples: Float[Tensor, "n d_in"] | None
    ) -> Float[Tensor, "d_sae d_in"]:
        """True features, and isotropic rows after them where there are more latents."""
        if self.features is None:
            raise ValueError("TrueFeatures needs the data: train with SyntheticDataModule")
        others = Isotropic().directions(max(0, d_sae - len(self.features)), d_in, generator)
        return torch.cat([self.features[:d_sae].cpu(), others])
