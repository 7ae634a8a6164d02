"""What two dictionaries have in common, and what random ones have.

    PW-MCC    (1/n) max_pi sum_i |cos(d_i, d'_pi(i))|, pi one-to-one      (Song et al. 2025, arXiv 2505.20254)
    MMCS      (1/n) sum_i max_j cos(d_i, d'_j), not one-to-one            (Sharkey et al. 2022)

The two are not the same and have been given each other's name: MMCS is never below the signed matching, and rises with
the number of latents.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from sae_lightning.metric import Metric, Question
from sae_lightning.metrics import best_cosine, matched_cosine
from sae_lightning.metrics.random_dictionary import n_draws
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.init import DecoderInit

# Paulo and Belrose 2025, arXiv 2501.16615.
SHARED_COSINE = 0.7
# Not a seed that somebody gives to an SAE, whose start would be one of the two random dictionaries.
_CHANCE_SEED = 0x5AE_A64EE

AGREES = Question(
    "seeds",
    "Do two seeds find the same latents?",
    order=100,
    title="Agreement of seeds",
    lead="Do two seeds of one policy find the same latents? Floor: random directions of equal mean and covariance.",
)
_CHANCE = "as many random directions as latents fire, with the covariance of the activations"
# No metric has a better way: every pair of seeds enters the values of two, which a verdict would take for independent.
MMCS = Metric(
    "seed_mmcs",
    "Nearest latent of the other seed (cosine)",
    AGREES,
    floor=_CHANCE,
    computed="mean over latents of the largest cosine to a decoder direction of the other seed; mean over other seeds",
)
MMCS_ABSOLUTE = Metric(
    "seed_mmcs_absolute",
    "Nearest latent of the other seed, either sign (cosine)",
    AGREES,
    floor=_CHANCE,
    computed="mean over latents of the largest absolute cosine to a decoder direction of the other seed; mean over "
    "other seeds",
)
PW_MCC = Metric(
    "seed_pw_mcc",
    "Latents of two seeds matched one to one (absolute cosine)",
    AGREES,
    floor=_CHANCE,
    computed="mean absolute cosine of decoder directions in the best one-to-one matching with those of the other seed; "
    "mean over other seeds",
)
MATCHED_COSINE = Metric(
    "seed_matched_cosine",
    "Latents of two seeds matched one to one (signed cosine)",
    AGREES,
    floor=_CHANCE,
    computed="mean cosine of decoder directions in the best one-to-one matching with those of the other seed; mean "
    "over other seeds",
)
MATCHED_COSINE_ENCODER = Metric(
    "seed_matched_cosine_encoder",
    "Latents of two seeds matched, encoder directions (cosine)",
    AGREES,
    floor=_CHANCE,
    computed="mean cosine of encoder directions in the best one-to-one matching with those of the other seed; mean "
    "over other seeds",
)
SHARED_FRACTION = Metric(
    "seed_shared_fraction",
    "Latents that have a partner",
    AGREES,
    floor=_CHANCE,
    computed=f"share of latents whose partner, in the best one-to-one matching with the other seed, has a mean of "
    f"decoder and encoder cosine above {SHARED_COSINE:g}; mean over other seeds",
)

AGREEMENT = (MMCS, MMCS_ABSOLUTE, PW_MCC, MATCHED_COSINE, MATCHED_COSINE_ENCODER, SHARED_FRACTION)

AgreementScores: TypeAlias = dict[Metric, float]
BothSides: TypeAlias = tuple[AgreementScores, AgreementScores]
"""What two SAEs that are compared score, each from its own side."""


@dataclass(frozen=True)
class Directions:
    """What is compared of one SAE.

    Args:
        decoder: [n_latents, d_out].
        encoder: [n_latents, d_in].
    """

    decoder: Float[Tensor, "n_latents d_out"]
    encoder: Float[Tensor, "n_latents d_in"]

    @property
    def both(self) -> Float[Tensor, "n_latents d_out_and_d_in"]:
        """Rows whose cosine is the mean of the decoder's and the encoder's."""
        return torch.cat([normalize(self.decoder.float(), dim=1), normalize(self.encoder.float(), dim=1)], 1)

    def first(self, n: int) -> "Directions":
        """Return the first n latents."""
        return Directions(self.decoder[:n], self.encoder[:n])

    @property
    def is_finite(self) -> bool:
        """Whether there are latents, and all their directions are numbers."""
        return len(self.decoder) > 0 and all(bool(rows.isfinite().all()) for rows in (self.decoder, self.encoder))


PairOfDirections: TypeAlias = tuple[Directions, Directions]


def nearest_cosines(first: Directions, second: Directions, absolute: bool = False) -> tuple[Tensor, Tensor]:
    """Return the largest cosine of each latent to a decoder direction of the other SAE, from the side of each.

    Nan where one of the two has no latents or is not finite.
    """
    if first.is_finite and second.is_finite:
        one, other = first.decoder, second.decoder
        return best_cosine(one, other, absolute), best_cosine(other, one, absolute)
    one, other = (torch.full((len(own.decoder),), torch.nan) for own in (first, second))
    return one, other


def agreement(
    first: Directions, second: Directions, to_match: bool = True, nearest: tuple[Tensor, Tensor] | None = None
) -> BothSides:
    """Return what `SeedAgreement` logs, from the side of each; nan where one has no latents or is not finite.

    Args:
        first: directions of one SAE.
        second: of the other, which may have another number of them.
        to_match: whether to have the scores of one-to-one matchings.
        nearest: what `nearest_cosines` gives for them, where it is known.
    """
    sizes = len(first.decoder), len(second.decoder)
    lone = not (first.is_finite and second.is_finite)
    scores: BothSides = ({}, {})
    signed = nearest_cosines(first, second) if nearest is None else nearest
    for metric, cosines in ((MMCS, signed), (MMCS_ABSOLUTE, nearest_cosines(first, second, absolute=True))):
        for scores_of_side, cosines_of_side in zip(scores, cosines, strict=True):
            scores_of_side[metric] = torch.nan if lone else float(cosines_of_side.double().mean())
    if not to_match:
        return scores
    for metric, pair, absolute in (
        (PW_MCC, (first.decoder, second.decoder), True),
        (MATCHED_COSINE, (first.decoder, second.decoder), False),
        (MATCHED_COSINE_ENCODER, (first.encoder, second.encoder), False),
        (SHARED_FRACTION, (first.both, second.both), False),
    ):
        matched = torch.zeros(0) if lone else matched_cosine(*pair, absolute).double()
        if metric == SHARED_FRACTION:
            matched = (matched > SHARED_COSINE).double()
        for scores_of_side, size in zip(scores, sizes, strict=True):
            # Over all latents of the side: one without partner counts as 0.
            scores_of_side[metric] = torch.nan if lone else float(matched.sum()) / size
    return scores


def random_pairs(
    init: DecoderInit,
    sae: SparseAutoencoder,
    samples: Float[Tensor, "n d_in"],
    target_samples: Float[Tensor, "n d_out"] | None = None,
) -> list[PairOfDirections]:
    """Draw pairs of dictionaries of this start, `n_draws` of them; their encoders are their decoders.

    Args:
        init: the start.
        sae: whose size they have.
        samples: activations that it reads.
        target_samples: what a transcoder answers with to these; its encoders get a draw of their own.
    """
    generator = torch.Generator().manual_seed(_CHANCE_SEED)

    def draw() -> Directions:
        answers = samples if target_samples is None else target_samples
        decoder = init.directions(sae.d_sae, sae.d_out, generator, answers).to(sae.W_dec.device)
        if target_samples is None:
            return Directions(decoder, decoder)
        return Directions(decoder, init.directions(sae.d_sae, sae.d_in, generator, samples).to(sae.W_dec.device))

    return [(draw(), draw()) for _ in range(n_draws(sae.d_sae))]


def chance(pairs: Sequence[PairOfDirections], n_first: int, n_second: int, to_match: bool = True) -> BothSides:
    """Return how pairs agree of which either has so many directions, the mean over the pairs."""
    scores = [agreement(first.first(n_first), second.first(n_second), to_match) for first, second in pairs]
    first, second = (
        {metric: fmean(both[side][metric] for both in scores) for metric in scores[0][0]} for side in (0, 1)
    )
    return first, second
