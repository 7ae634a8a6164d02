"""Do SAEs that differ in the seed alone end with the same latents, and which latents do all of them have?

What two dictionaries have in common is measured by `agreement`, how stable single latents are by `stability`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isfinite, nan
from statistics import fmean

import torch
from lightning.pytorch import LightningModule, Trainer

from sae_lightning import metrics
from sae_lightning.evaluators.agreement import (
    AGREEMENT,
    AgreementScores,
    BothSides,
    Directions,
    PairOfDirections,
    agreement,
    chance,
    nearest_cosines,
    random_pairs,
)
from sae_lightning.evaluators.base import Evaluator, datamodule_of, evaluate_across_ranks
from sae_lightning.evaluators.recovery import LARGEST_MATCHING
from sae_lightning.evaluators.scores import Scores
from sae_lightning.evaluators.sizes import SameSize, same_sizes
from sae_lightning.evaluators.stability import (
    STABILITY,
    STABLE_ABOVE,
    STABLE_FRACTION,
    Nearest,
    Stability,
    latent_scores,
)
from sae_lightning.members import Member
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.init import CovarianceMatched, Isotropic
from sae_lightning.saes.module import SAEModule
from sae_lightning.saes.step import Step

_MOST_RANDOM = 1024
"""Random directions whose stability is measured; their quantiles are then known to a percent."""
_NOTHING_TO_COMPARE = "of an SAE of which no latent fires, or of its only other seed, there is nothing to compare"


@dataclass(frozen=True)
class Compared:
    """What is found of two SAEs, or of random dictionaries beside them, each from both sides.

    Args:
        scores: what `SeedAgreement` logs.
        chance: the same of random dictionaries.
        nearest: of single latents.
    """

    scores: BothSides
    chance: BothSides
    nearest: tuple[Nearest, Nearest]


class SeedAgreement(Evaluator):
    """Compare the latents of each SAE with those of the same policy and other seeds; log the mean over these.

    - seed_pw_mcc: mean absolute cosine of decoder directions in the best one-to-one matching (PW-MCC).
    - seed_matched_cosine, seed_matched_cosine_encoder: the same with signed cosines, of decoder and of encoder
      directions.
    - seed_shared_fraction: share of latents that have a partner, in a one-to-one matching by the mean of decoder and
      encoder cosine, with which that mean is above 0.7 (Paulo and Belrose 2025, arXiv 2501.16615).
    - seed_mmcs, seed_mmcs_absolute: mean over latents of the largest cosine to any decoder direction of the other.
    - seed_stability: median over latents of their stability, which is that cosine (signed), its mean over other seeds.
    - seed_stable_fraction: share of latents more stable than 95 % of random directions, which have the covariance of
      the activations, are against the same dictionaries.

    The stability of each latent, the share of random directions that are less stable, and the firing frequency are kept
    in latents.safetensors of the run. `sae compare` and `sae report` hold them against what other evaluators measured
    of single latents there (AutoInterp, SparseProbing, CausalEditing): are stable latents the better ones?

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

    declares = (*AGREEMENT, STABILITY, STABLE_FRACTION)
    compares_members = True
    takes_transcoders = True
    takes_crosscoders = True

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
        frequencies = {member: firings.compute()["firing_frequency"] for member, firings in self._firings.items()}
        directions = {
            member: Directions(sae.W_dec.detach()[alive], sae.W_enc.detach().T[alive])
            for member, sae in module.members.items()
            for alive in [frequencies[member] > 0]
        }
        later = later_seeds(module.members)
        to_match = max(sae.d_sae for sae in module.members.values()) <= LARGEST_MATCHING
        random = {member: pairs for size, pairs in self._random_pairs(trainer, module) for member in size.members}

        def compare(one: Member, _: SparseAutoencoder) -> dict[Member, Compared]:
            """Compare a member with its later seeds, and beside them random dictionaries with as many directions."""
            pairs = random[one]["covariance"]
            return {other: compared(directions[one], directions[other], pairs, to_match) for other in later[one]}

        values: dict[Member, list[AgreementScores]] = {member: [] for member in later}
        floors: dict[Member, list[AgreementScores]] = {member: [] for member in later}
        nearest: dict[Member, list[Nearest]] = {member: [] for member in later}
        for first, results in evaluate_across_ranks(module.members, compare).items():
            for second, result in results.items():
                for member, side in ((first, 0), (second, 1)):
                    values[member].append(result.scores[side])
                    floors[member].append(result.chance[side])
                    nearest[member].append(result.nearest[side])
        stability = {member: Stability.of(own, frequencies[member] > 0) for member, own in nearest.items()}
        self.latent_scores += latent_scores(stability, frequencies)
        means, chances = _means(values), _means(floors)
        for size, pairs in self._random_pairs(trainer, module):
            n = round(fmean(len(directions[member].decoder) for member in size.members))
            means[size.reference("isotropic")] = chance(pairs["isotropic"], n, n, to_match)[0]
        for metric in next(iter(means.values())):
            yield Scores(
                metric,
                {member: scores[metric] for member, scores in means.items()},
                {member: scores[metric] for member, scores in chances.items()},
                undefined=_NOTHING_TO_COMPARE,
            )
        medians = {member: own.median for member, own in stability.items()}
        random_medians = {member: own.random_median for member, own in stability.items()}
        yield Scores(STABILITY, medians, random_medians, undefined=_NOTHING_TO_COMPARE)
        stable = {member: own.stable_fraction for member, own in stability.items()}
        yield Scores(STABLE_FRACTION, stable, 1 - STABLE_ABOVE, undefined=_NOTHING_TO_COMPARE)

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
                sample = datamodule.calibration_sample(covariance.n_samples(max(sae.d_in, sae.d_out)))
                samples, targets = (own(size.members[0], sample) for own in (module.activations_for, module.target_for))
                assert samples is not None
                if sae.crosscoder:
                    samples = samples * sae.input_scale.to(samples)
                self._random[key] = {
                    "isotropic": random_pairs(Isotropic(), sae, samples, targets),
                    "covariance": random_pairs(covariance, sae, samples, targets),
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


def compared(
    first: Directions, second: Directions, random: Sequence[PairOfDirections], to_match: bool = True
) -> Compared:
    """Compare two SAEs, and beside them random dictionaries.

    Args:
        first: directions of one SAE.
        second: of the other.
        random: pairs of random dictionaries, from `random_pairs`, with as many directions as either or more.
        to_match: whether to have the scores of one-to-one matchings.
    """
    cosines = nearest_cosines(first, second)
    directions = torch.cat([own.decoder for own, _ in random])[:_MOST_RANDOM]
    return Compared(
        agreement(first, second, to_match, cosines),
        chance(random, len(first.decoder), len(second.decoder), to_match),
        (Nearest.of(cosines[0], directions, second.decoder), Nearest.of(cosines[1], directions, first.decoder)),
    )
