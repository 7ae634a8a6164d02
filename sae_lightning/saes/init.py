"""Starts of the decoder directions: unit rows that depend on the generator and the samples alone.

Isotropic and covariance-matched are the two starts of Korznikov et al. 2026, arXiv 2602.14111.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from sae_lightning.checks import check_whole
from sae_lightning.metrics.random_dictionary import isotropic_directions
from sae_lightning.saes.data import columns_by_part


class DecoderInit(ABC):
    """Start of the decoder directions."""

    def prepare(self, datamodule: Any, part: str = "", target: str = "") -> None:  # noqa: B027
        """Take from the datamodule what else is needed, before `directions`; called only where samples are needed.

        Args:
            datamodule: of the run.
            part: name of what the SAE reads; empty where activations have one part.
            target: name of the hook at which a transcoder answers; empty for an SAE.
        """

    def n_samples(self, d_in: int) -> int:
        """Return the number of raw activations that are needed; 0 if the start does not depend on the data."""
        return 0

    def of_encoder(self) -> "DecoderInit":
        """Return the start of the encoder directions of a transcoder, which are of another space."""
        return self

    @abstractmethod
    def directions(
        self, d_sae: int, d_in: int, generator: torch.Generator, samples: Float[Tensor, "n d_in"] | None
    ) -> Float[Tensor, "d_sae d_in"]:
        """Return unit rows, drawn on the CPU in float32.

        Args:
            d_sae: number of rows.
            d_in: width of a row.
            generator: the only source of randomness.
            samples: raw activations, at least `n_samples(d_in)` of them; may be None where that is 0.

        Raises:
            ValueError: if samples are needed and missing.
        """


class Isotropic(DecoderInit):
    """Uniform on the unit sphere."""

    def directions(
        self, d_sae: int, d_in: int, generator: torch.Generator, samples: Float[Tensor, "n d_in"] | None = None
    ) -> Float[Tensor, "d_sae d_in"]:
        """Return normalised Gaussian rows, which have no preferred direction."""
        return isotropic_directions(d_sae, d_in, generator)


class CovarianceMatched(DecoderInit):
    """Drawn from N(0, covariance of the activations), then normalised; the covariance is about the mean.

    Args:
        samples_per_dimension: activations used for the estimate, per dimension of the activation (10 or more).
    """

    def __init__(self, samples_per_dimension: int = 20) -> None:
        check_whole(1, samples_per_dimension=samples_per_dimension, hint="10 to 50 is usual")
        self.samples_per_dimension = samples_per_dimension

    def n_samples(self, d_in: int) -> int:
        """Return the number of samples for the estimate of the covariance."""
        return self.samples_per_dimension * d_in

    def directions(
        self, d_sae: int, d_in: int, generator: torch.Generator, samples: Float[Tensor, "n d_in"] | None
    ) -> Float[Tensor, "d_sae d_in"]:
        """Return unit rows that favour the principal directions of the data."""
        if samples is None:
            raise ValueError("CovarianceMatched needs activations: call initialise(seed, samples)")
        centred = samples.double().cpu() - samples.double().cpu().mean(0)
        # With covariance = axes diag(variance) axes^T and scaled_axes = axes diag(variance)^(1/2), the rows of
        # noise @ scaled_axes^T have exactly this covariance. Rounding can make the smallest variances negative.
        variance, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
        scaled_axes = axes * variance.clamp_min(0).sqrt()
        noise = torch.randn(d_sae, d_in, generator=generator).double()
        return normalize(noise @ scaled_axes.T, dim=1).float()


class DataPoints(DecoderInit):
    """Directions of randomly chosen activations from their mean."""

    def n_samples(self, d_in: int) -> int:
        """Return a number from which each latent gets an activation of its own, unless d_sae is above 64 d_in."""
        return 64 * d_in

    def directions(
        self, d_sae: int, d_in: int, generator: torch.Generator, samples: Float[Tensor, "n d_in"] | None
    ) -> Float[Tensor, "d_sae d_in"]:
        """Return unit rows from the mean towards data points; one is used again only after all others."""
        if samples is None:
            raise ValueError("DataPoints needs activations: call initialise(seed, samples)")
        rounds = -(-d_sae // len(samples))  # rounded up: each round uses every sample once
        chosen = torch.cat([torch.randperm(len(samples), generator=generator) for _ in range(rounds)])[:d_sae]
        centred = (samples - samples.mean(0)).float().cpu()
        return normalize(centred[chosen], dim=1)


class TrueFeatures(DecoderInit):
    """The true features of synthetic data: the start of an oracle.

    With fewer latents than features, the features that fire most often; with more, the other latents are isotropic. Of
    a transcoder the decoder has the directions of the answer, the encoder those of what is read; of a crosscoder both
    have those of all parts side by side, whose activations should be of one scale.
    """

    def __init__(self) -> None:
        self.features: Tensor | None = None
        self._read: Tensor | None = None

    def n_samples(self, d_in: int) -> int:
        """Return 1: no sample is read, but only starts that need samples are shown the datamodule."""
        return 1

    def prepare(self, datamodule: Any, part: str = "", target: str = "") -> None:
        """Take the features of a synthetic source, most frequent first; of a null those of the data.

        Raises:
            ValueError: if the data have no true features.
        """
        source: Any = getattr(datamodule, "source", None)
        if getattr(source, "features", None) is None:
            raise ValueError(
                "TrueFeatures needs data whose true features are known, and "
                f"data={type(datamodule).__name__} has none: take SyntheticDataModule, or another start"
            )
        by_frequency = source.firing_probabilities.argsort(descending=True, stable=True)
        rows = source.features[by_frequency]
        columns = columns_by_part(getattr(datamodule, "hook_widths", {}))
        nulls = getattr(datamodule, "nulls_of_parts", {})
        read, written = (nulls.get(one, ("", one))[1] for one in (part, target))
        self._read = rows[:, columns[read]] if read in columns else normalize(rows, dim=1) if columns else rows
        self.features = rows[:, columns[written]] if target else self._read

    def of_encoder(self) -> "TrueFeatures":
        """Return the directions of the same features in what is read."""
        own = TrueFeatures()
        own.features = self._read
        return own

    def directions(
        self, d_sae: int, d_in: int, generator: torch.Generator, samples: Float[Tensor, "n d_in"] | None
    ) -> Float[Tensor, "d_sae d_in"]:
        """Return true features, and isotropic rows after them where there are more latents."""
        if self.features is None:
            raise ValueError("TrueFeatures needs the data: train with SyntheticDataModule")
        others = Isotropic().directions(max(0, d_sae - len(self.features)), d_in, generator)
        return torch.cat([self.features[:d_sae].cpu(), others])
