"""Do SAEs that differ in the seed alone end with the same latents?

    PW-MCC    (1/n) max_pi sum_i |cos(d_i, d'_pi(i))|, pi one-to-one      (Song et al. 2025, arXiv 2505.20254)
    MMCS      (1/n) sum_i max_j cos(d_i, d'_j), not one-to-one            (Sharkey et al. 2022)

The two are not the same and have been given each other's name: MMCS is never below the signed matching, and rises with
the number of latents.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isfinite, nan
from statistics import fmean
from typing import TypeAlias

import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.nn.functional import normalize

from sae_lightning import metrics
from sae_lightning.evaluators.base import Evaluator, datamodule_of, evaluate_across_ranks
from sae_lightning.evaluators.recovery import LARGEST_MATCHING
from sae_lightning.evaluators.scores import Scores
from sae_lightning.evaluators.sizes import SameSize, same_sizes
from sae_lightning.members import Member
from sae_lightning.metric import Metric, Question
from sae_lightning.metrics import best_cosine, matched_cosine
from sae_lightning.metrics.random_dictionary import n_draws
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.init import CovarianceMatched, DecoderInit, Isotropic
from sae_lightning.saes.module import SAEModule, Step

# Paulo and Belrose 2025, arXiv 2501.16615.
_SHARED_COSINE = 0.7

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
    f"decoder and encoder cosine above {_SHARED_COSINE:g}; mean over other seeds",
)

AgreementScores: TypeAlias = dict[Metric, float]
BothSides: TypeAlias = tuple[AgreementScores, AgreementScores]
"""What two SAEs that are compared score, each from its own side."""


@dataclass(frozen=True)
class Directions:
    """What is compared of one SAE.

    Args:
        decoder: [n_latents, d_in].
        encoder: [n_latents, d_in].
    """

    decoder: Float[Tensor, "n_latents d_in"]
    encoder: Float[Tensor, "n_latents d_in"]

    @property
    def both(self) -> Float[Tensor, "n_latents twice_d_in"]:
        """Rows whose cosine is the mean of the decoder's and the encoder's."""
        return torch.cat([normalize(self.decoder.float(), dim=1), normalize(self.encoder.float(), dim=1)], 1)

    def first(self, n: int) -> "Directions":
        """Return the first n latents."""
        return Directions(self.decoder[:n], self.encoder[:n])


PairOfDirections: TypeAlias = tuple[Directions, Directions]


class SeedAgreement(Evaluator):
    """Compare the latents of each SAE with those of the same policy and other seeds; log the mean over these.

    - seed_pw_mcc: mean absolute cosine of decoder directions in the best one-to-one matching (PW-MCC).
    - seed_matched_cosine, seed_matched_cosine_encoder: the same with signed cosines, of decoder and of encoder
      directions.
    - seed_shared_fraction: share of latents that have a partner, in a one-to-one matching by the mean of decoder and
      encoder cosine, with which that mean is above 0.7 (Paulo and Belrose 2025, arXiv 2501.16615).
    - seed_mmcs, seed_mmcs_absolute: mean over latents of the largest cosine to any decoder direction of the other.

    Only latents that fired in this validation are compared: a dead one stands where it started and says nothing about
    the data. A latent without partner, where the other SAE has fewer that live, counts as 0. All are in [-1, 1], higher
    is better, 1 for the same latents in any order.

    Floors are chance, for each pair of SAEs: a pair of random dictionaries with as many directions as either has
    latents that fired, and the covariance of the activations, whose common principal directions alone make seeds agree;
    the mean over one such pair, or over as many as have 1024 directions in all.
    Isotropic directions, which agree less, stand beside them as `isotropic/0`, as many as the SAEs of that size have
    latents that fired, on average. Seeds start apart, so two frozen decoders are at the chance of their start, and two
    soft-frozen ones can hardly leave it: what they score is no finding. No verdict is given: every pair of seeds enters
    the values of two, which an interval over seeds would take for independent. The matchings, of a time that grows with
    the cube of d_sae, are left out above 16384 latents.

    Args:
        every_n_validations: as a rule 0, for the last validation alone. For 3 seeds of 4 policies with 2048 latents it
            takes 80 seconds of one CPU core.
    """

    def __init__(self, every_n_validations: int = 0) -> None:
        super().__init__(every_n_validations)
        self._random: dict[tuple[str, int], dict[str, list[PairOfDirections]]] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there are seeds to compare."""
        super().setup(trainer, pl_module, stage)
        assert isinstance(pl_module, SAEModule)
        later = later_seeds(pl_module.members)
        paired = {member for first, others in later.items() if others for member in (first, *others)}
        alone = [member for member in later if member not in paired]
        if alone:
            raise ValueError(
                f"SeedAgreement compares seeds, and of {alone[0].policy} there is one: take a SanityPanel "
                "with two or more, for example model.seeds=[0, 1], or leave out SeedAgreement"
            )

    def start(self, module: SAEModule) -> None:
        """Make fresh counters of firings."""
        self._firings = {
            member: metrics.Sparsity(sae.d_sae).to(module.device) for member, sae in module.members.items()
        }

    def update(self, steps: Mapping[Member, Step]) -> None:
        """Count which latents fire."""
        for member, step in steps.items():
            self._firings[member].update(step.code)

    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> Iterator[Scores]:
        """Compare each pair once, on one of the ranks."""
        directions = {
            member: Directions(sae.W_dec.detach()[alive], sae.W_enc.detach().T[alive])
            for member, sae in module.members.items()
            for alive in [self._firings[member].compute()["firing_frequency"] > 0]
        }
        later = later_seeds(module.members)
        to_match = max(sae.d_sae for sae in module.members.values()) <= LARGEST_MATCHING
        random = {member: pairs for size, pairs in self._random_pairs(trainer, module) for member in size.members}

        def compare(one: Member, _: SparseAutoencoder) -> dict[Member, tuple[BothSides, BothSides]]:
            """Compare a member with its later seeds, and beside them random dictionaries with as many directions."""
            results = {}
            for other in later[one]:
                own, others = directions[one], directions[other]
                sizes = len(own.decoder), len(others.decoder)
                results[other] = agreement(own, others, to_match), chance(random[one]["covariance"], *sizes, to_match)
            return results

        values: dict[Member, list[AgreementScores]] = {member: [] for member in later}
        floors: dict[Member, list[AgreementScores]] = {member: [] for member in later}
        for first, results in evaluate_across_ranks(module.members, compare).items():
            for second, (scores, by_chance) in results.items():
                for member, side in ((first, 0), (second, 1)):
                    values[member].append(scores[side])
                    floors[member].append(by_chance[side])
        means, chances = _means(values), _means(floors)
        for size, pairs in self._random_pairs(trainer, module):
            n = round(fmean(len(directions[member].decoder) for member in size.members))
            means[size.reference("isotropic")] = chance(pairs["isotropic"], n, n, to_match)[0]
        for metric in next(iter(means.values())):
            yield Scores(
                metric,
                {member: scores[metric] for member, scores in means.items()},
                {member: scores[metric] for member, scores in chances.items()},
                undefined="of an SAE of which no latent fires, or of its only other seed, there is nothing to compare",
            )

    def _random_pairs(
        self, trainer: Trainer, module: SAEModule
    ) -> Iterator[tuple[SameSize, dict[str, list[PairOfDirections]]]]:
        """Draw once two random dictionaries of each part and size, of either start."""
        datamodule = datamodule_of(trainer)
        assert datamodule is not None
        for size in same_sizes(module):
            key = (size.part, size.d_sae)
            if key not in self._random:
                sae, covariance = module.members[size.members[0]], CovarianceMatched()
                samples = datamodule.calibration_sample(covariance.n_samples(sae.d_in))
                samples = module.activations_for(size.members[0], samples)
                self._random[key] = {
                    "isotropic": random_pairs(Isotropic(), sae, samples),
                    "covariance": random_pairs(covariance, sae, samples),
                }
            yield size, self._random[key]


def _means(scores: Mapping[Member, list[AgreementScores]]) -> dict[Member, AgreementScores]:
    """Return means over other seeds, without those of which no latent fires."""
    return {
        member: {metric: _mean([each[metric] for each in of_member]) for metric in of_member[0]}
        for member, of_member in scores.items()
    }


def _mean(values: list[float]) -> float:
    finite = [value for value in values if isfinite(value)]
    return fmean(finite) if finite else nan


def later_seeds(members: Iterable[Member]) -> dict[Member, list[Member]]:
    """Return for each member those of its part and policy that come after it, so that each pair is there once."""
    groups: dict[tuple[str, str], list[Member]] = {}
    later: dict[Member, list[Member]] = {}
    for member in members:
        later[member] = []
        groups.setdefault((member.part, member.policy), []).append(member)
    for group in groups.values():
        # The order of the keys decides which of two comes first, and with it the rounding of the values.
        for one, other in combinations(sorted(group, key=str), 2):
            later[one].append(other)
    return later


def agreement(first: Directions, second: Directions, to_match: bool = True) -> tuple[AgreementScores, AgreementScores]:
    """Return what `SeedAgreement` logs, from the side of each; nan where one has no latents or is not finite.

    Args:
        first: directions of one SAE.
        second: of the other, which may have another number of them.
        to_match: whether to have the scores of one-to-one matchings.
    """
    sides = ((first, second), (second, first))
    sizes = [len(own.decoder) for own, _ in sides]
    lone = 0 in sizes or not all(own.both.isfinite().all() for own, _ in sides)
    scores: tuple[AgreementScores, AgreementScores] = ({}, {})
    for metric, absolute in ((MMCS, False), (MMCS_ABSOLUTE, True)):
        for scores_of_side, (own, other) in zip(scores, sides, strict=True):
            scores_of_side[metric] = (
                torch.nan if lone else float(best_cosine(own.decoder, other.decoder, absolute).double().mean())
            )
    if not to_match:
        return scores
    for metric, pair, absolute in (
        (PW_MCC, (first.decoder, second.decoder), True),
        (MATCHED_COSINE, (first.decoder, second.decoder), False),
        (MATCHED_COSINE_ENCODER, (first.encoder, second.encoder), False),
        (SHARED_FRACTION, (first.both, second.both), False),
    ):
        cosines = torch.zeros(0) if lone else matched_cosine(*pair, absolute).double()
        if metric == SHARED_FRACTION:
            cosines = (cosines > _SHARED_COSINE).double()
        for scores_of_side, size in zip(scores, sizes, strict=True):
            # Over all latents of the side: one without partner counts as 0.
            scores_of_side[metric] = torch.nan if lone else float(cosines.sum()) / size
    return scores


def random_pairs(init: DecoderInit, sae: SparseAutoencoder, samples: Float[Tensor, "n d_in"]) -> list[PairOfDirections]:
    """Draw pairs of dictionaries of this start, `n_draws` of them; their encoders are their decoders."""
    generator = torch.Generator().manual_seed(_CHANCE_SEED)

    def draw() -> Directions:
        directions = init.directions(sae.d_sae, sae.d_in, generator, samples).to(sae.W_dec.device)
        return Directions(directions, directions)

    return [(draw(), draw()) for _ in range(n_draws(sae.d_sae))]


def chance(pairs: Sequence[PairOfDirections], n_first: int, n_second: int, to_match: bool = True) -> BothSides:
    """Return how pairs agree of which either has so many directions, the mean over the pairs."""
    scores = [agreement(first.first(n_first), second.first(n_second), to_match) for first, second in pairs]
    first, second = (
        {metric: fmean(both[side][metric] for both in scores) for metric in scores[0][0]} for side in (0, 1)
    )
    return first, second
