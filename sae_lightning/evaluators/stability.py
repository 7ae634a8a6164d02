"""How stable single latents are over seeds, and how stable random directions are against the same dictionaries.

    stability of latent i    mean over other seeds s of max_j cos(d_i, d_j^s)    j over the latents of s that fire

A latent without counterpart still has a nearest direction, so a stability means little by itself: random directions
with the mean and covariance of the activations are put to the same dictionaries, and `share_below` says how many of
them are less stable than the latent. The latents of a frozen decoder are such directions. Gerasimov et al. 2026
(arXiv 2606.12138) estimate the probability that a similar latent reappears; a mean of cosines needs no threshold of
similarity, and few seeds are enough to order latents by it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from sae_lightning.evaluators.agreement import AGREES
from sae_lightning.evaluators.latent_scores import LatentScores
from sae_lightning.members import Member
from sae_lightning.metric import Metric
from sae_lightning.metrics import best_cosine

STABLE_ABOVE = 0.95
"""A latent counts as stable if it is above this share of random directions."""

STABILITY = Metric(
    "seed_stability",
    "Stability of latents (cosine), median",
    AGREES,
    floor="random directions, with the covariance of the activations, against the same dictionaries",
    computed="median over latents that fire of their stability: the largest cosine to a decoder direction of another "
    "seed, mean over other seeds",
)
STABLE_FRACTION = Metric(
    "seed_stable_fraction",
    "Latents more stable than random directions",
    AGREES,
    floor="random directions, of which 5 % are",
    computed=f"share of latents that fire which are more stable than {STABLE_ABOVE:.0%} of random directions, with the "
    "covariance of the activations, are against the same dictionaries",
)


@dataclass(frozen=True)
class Nearest:
    """How near the nearest direction of another seed is.

    Args:
        latents: [n_latents] the cosine of each latent that fires.
        random: [n_random] that of random directions, the same for each other seed.
    """

    latents: Float[Tensor, " n_latents"]
    random: Float[Tensor, " n_random"]

    @classmethod
    def of(
        cls,
        latents: Float[Tensor, " n_latents"],
        random: Float[Tensor, "n_random d_in"],
        dictionary: Float[Tensor, "n_other d_in"],
    ) -> "Nearest":
        """Look for random directions too in the dictionary in which the latents were looked for; on the CPU."""
        by_chance = best_cosine(random, dictionary) if len(dictionary) else torch.full((len(random),), torch.nan)
        return cls(latents.cpu(), by_chance.cpu())


@dataclass(frozen=True)
class Stability:
    """The stability of the latents of one SAE.

    Args:
        latents: [d_sae] of each latent, in [-1, 1]; nan for those that do not fire.
        random: [n_random] of random directions.
    """

    latents: Float64[Tensor, " d_sae"]
    random: Float64[Tensor, " n_random"]

    @classmethod
    def of(cls, nearest: Sequence[Nearest], fires: Bool[Tensor, " d_sae"]) -> "Stability":
        """Take the mean over other seeds; a seed of which no latent fires has nothing to say.

        Args:
            nearest: by other seed.
            fires: which latents the cosines are of.
        """
        latents = torch.full((len(fires),), torch.nan, dtype=torch.float64)
        latents[fires.cpu()] = torch.stack([each.latents.double() for each in nearest]).nanmean(0)
        return cls(latents, torch.stack([each.random.double() for each in nearest]).nanmean(0))

    @property
    def share_below(self) -> Float64[Tensor, " d_sae"]:
        """Share of random directions that are less stable, in [0, 1]; nan for latents that do not fire."""
        below = torch.searchsorted(self.random.sort().values, self.latents) / len(self.random)
        return below.double().where(self.latents.isfinite(), torch.nan)

    @property
    def median(self) -> float:
        """Median over latents that fire; nan without any."""
        return float(self.latents.nanmedian())

    @property
    def random_median(self) -> float:
        """Median over random directions."""
        return float(self.random.nanmedian())

    @property
    def stable_fraction(self) -> float:
        """Share of the latents that fire which are above `STABLE_ABOVE` of random directions; nan without any."""
        share = self.share_below[self.latents.isfinite()]
        return float((share > STABLE_ABOVE).double().mean())


def latent_scores(
    stability: Mapping[Member, Stability], frequencies: Mapping[Member, Float[Tensor, " d_sae"]]
) -> Iterator[LatentScores]:
    """Yield what is kept of single latents."""
    own = {member: each.latents for member, each in stability.items()}
    yield LatentScores("stability", "stability over seeds", own, is_quality=False)
    below = {member: each.share_below for member, each in stability.items()}
    yield LatentScores("stability_above_random", "random directions that are less stable", below, is_quality=False)
    yield LatentScores("firing_frequency", "firing frequency", frequencies, is_quality=False)
