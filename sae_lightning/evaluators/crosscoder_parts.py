"""What does a crosscoder explain of each part, what does one part tell of another, and which latents are of several?

    explained_variance_of_P          of one part, by the code of all
    explained_variance_of_P_from_Q   of P, by the code that Q alone gives

Q alone: the activations of all other parts stand at `b_dec`, so their encoders add nothing, and a latent is as active
as Q makes it. Beside it stands `linear_map`, the ridge regression from Q to P, which needs no latents.

    norm_share_of_P = ||W_dec of P|| / sum over parts of ||W_dec of the part||        of each latent

is 1 for a latent of P alone and 1 / n_parts for one that writes as much to each, in the scale of training, in which all
parts have the same mean squared norm (Lindsey et al. 2024).
"""

from collections.abc import Iterator, Mapping
from itertools import permutations

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from sae_lightning.checks import check_whole
from sae_lightning.datamodules.base import ActivationDataModule
from sae_lightning.distributed import all_reduce_sum
from sae_lightning.evaluators.base import Evaluator, datamodule_of, log_histogram
from sae_lightning.evaluators.latent_scores import LatentScores
from sae_lightning.evaluators.linear_maps import SAMPLES_PER_DIMENSION, of_all_ranks, squared_deviations
from sae_lightning.evaluators.reconstruction import EXPLAINS
from sae_lightning.evaluators.scores import Items, Scores
from sae_lightning.members import LINEAR_MAP, Member
from sae_lightning.metric import Metric, Question
from sae_lightning.metrics.functional import moments_update, squared_error_update
from sae_lightning.metrics.linear_map import LinearMap, fit_linear_maps
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.crosscoder import norm_shares
from sae_lightning.saes.module import SAEModule
from sae_lightning.saes.step import Step

SHARES = Question("parts", "Do the parts share a code?", order=20)
_FLOOR = "predicting the mean of the data"
SHARED_LATENTS = Metric(
    "shared_latents",
    "Latents that write to all parts",
    SHARES,
    computed="of the latents that fire, the share of those whose share of norm in every part is at least half of "
    "1 / n_parts",
)


def explained_of(part: str) -> Metric:
    """Describe the explained variance of a part."""
    return Metric(
        f"explained_variance_of_{part}",
        f"Explained variance of {part}",
        EXPLAINS,
        better="higher",
        floor=_FLOOR,
        computed=f"explained variance of {part} by the code of all parts",
    )


def explained_from(part: str, other: str) -> Metric:
    """Describe the explained variance of a part by what another one tells."""
    return Metric(
        f"explained_variance_of_{part}_from_{other}",
        f"Explained variance of {part} from {other} alone",
        SHARES,
        better="higher",
        floor=_FLOOR,
        computed=f"explained variance of {part} by the code that {other} gives with all other parts at b_dec",
    )


def share_in(part: str) -> Metric:
    """Describe the mean share of norm in a part."""
    return Metric(
        f"norm_share_of_{part}",
        f"Share of decoder norm in {part}",
        SHARES,
        computed=f"norm of the decoder direction in {part} over the sum of those in all parts, mean over latents that "
        "fire",
    )


class CrosscoderParts(Evaluator):
    """Log of crosscoders what is explained of each part, and how decoder norms are shared out over parts.

    - explained_variance_of_<part>, and explained_variance_of_<part>_from_<other>, by what the other part alone gives.
      Beside the latter stands the best linear map, fitted once, where the data give a sample of their training set.
    - norm_share_of_<part>, mean over latents that fire; it is kept of each of these, and its distribution is drawn.
    - shared_latents, the share of latents that write to all parts.

    Floors of explained variance are 0, those of predicting the mean.

    Args:
        samples_per_dimension: training activations for the linear maps, per dimension of the widest part, 5 or more.
        every_n_validations: 1 or more; the last validation always counts.
    """

    declares = (explained_of("PART"), explained_from("PART", "OTHER"), share_in("PART"), SHARED_LATENTS)
    takes_split = True
    takes_crosscoders = True

    def __init__(self, samples_per_dimension: int = SAMPLES_PER_DIMENSION, every_n_validations: int = 1) -> None:
        super().__init__(every_n_validations)
        check_whole(5, samples_per_dimension=samples_per_dimension)
        self.samples_per_dimension = samples_per_dimension

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there are crosscoders of several parts."""
        super().setup(trainer, pl_module, stage)
        assert isinstance(pl_module, SAEModule)
        if not all(len(sae.columns) > 1 for sae in pl_module.all_members.values()):
            raise ValueError(
                "CrosscoderParts: an SAE of one hook has no parts: expected crosscoders of several, with "
                "model.crosscoder=true; or leave it out"
            )
        self._datamodule = datamodule_of(trainer)
        self._maps: dict[tuple[str, str], LinearMap] = {}

    def start(self, module: SAEModule) -> None:
        """Make fresh sums."""
        self._saes = module.members
        if not self._maps and self._datamodule is not None:
            self._fit_maps(self._datamodule, module)
        self._errors: dict[tuple[str, str], dict[Member, list[Tensor]]] = {}
        """By part and source, which is empty where all parts are read."""
        self._moments: dict[str, list[Tensor]] = {}
        self._fired = {
            member: torch.zeros(sae.d_sae, dtype=torch.int64, device=module.device)
            for member, sae in module.members.items()
        }

    def _fit_maps(self, datamodule: ActivationDataModule, module: SAEModule) -> None:
        """Fit the linear maps between parts, the same on every rank."""
        sae = next(iter(module.all_members.values()))
        samples = datamodule.calibration_sample(self.samples_per_dimension * max(sae.widths.values()))
        for pair in permutations(sae.columns, 2):
            part, source = (samples[:, sae.columns[name]] for name in pair)
            [self._maps[pair]] = fit_linear_maps(source, part, (None,))

    def update(self, steps: Mapping[Member, Step]) -> None:
        """Add up the squared errors of one batch, part by part, and the firings."""
        first = next(iter(steps))
        columns, scale = self._saes[first].columns, self._saes[first].input_scale
        for part, own in columns.items():
            self._moments.setdefault(part, []).append(moments_update(steps[first].target[:, own]))
        for (part, source), linear in self._maps.items():
            answer = linear(steps[first].x[:, columns[source]]) * scale[columns[part]]
            self._add(part, source, Member(LINEAR_MAP, 0), steps[first].target[:, columns[part]], answer)
        for member, step in steps.items():
            sae = self._saes[member]
            self._fired[member] += step.code.firing_counts()
            answers = {source: sae.decode(sae.encode(alone(sae, step.x, source))) for source in sae.columns}
            for part, own in sae.columns.items():
                self._add(part, "", member, step.target[:, own], step.x_hat[:, own])
                for source, answer in answers.items():
                    if source != part:
                        self._add(part, source, member, step.target[:, own], answer[:, own] * sae.input_scale[own])

    def _add(self, part: str, source: str, member: Member, target: Tensor, x_hat: Tensor) -> None:
        errors = self._errors.setdefault((part, source), {}).setdefault(member, [])
        errors.append(squared_error_update(target, x_hat))

    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> Iterator[Scores]:
        """Compute explained variance, with the batches as items, and the shares of norm."""
        deviations = {part: squared_deviations(of_all_ranks(own)) for part, own in self._moments.items()}
        for (part, source), members in self._errors.items():
            numerators = {member: deviations[part] - of_all_ranks(own) for member, own in members.items()}
            denominators = dict.fromkeys(members, deviations[part])
            values = {member: float(own.sum() / deviations[part].sum()) for member, own in numerators.items()}
            metric = explained_from(part, source) if source else explained_of(part)
            yield Scores(metric, values, 0.0, Items(numerators, denominators))
        yield from self._scores_of_norms(trainer, module, stage)

    def _scores_of_norms(self, trainer: Trainer, module: SAEModule, stage: str) -> Iterator[Scores]:
        shares: dict[str, dict[Member, Tensor]] = {}
        shared: dict[Member, Tensor] = {}
        for member, sae in module.members.items():
            fires = all_reduce_sum(self._fired[member]) > 0
            of_parts = sae.mesh.whole(norm_shares(sae.W_dec.detach(), sae.columns), 1, everywhere=True)
            of_parts = of_parts.masked_fill(~fires.to(of_parts.device), torch.nan)
            for part, of_latents in zip(sae.columns, of_parts, strict=True):
                shares.setdefault(part, {})[member] = of_latents
                log_histogram(trainer, stage, share_in(part).name, member, of_latents[fires.to(of_latents.device)])
            smallest = of_parts[:, fires.to(of_parts.device)].amin(0)
            shared[member] = (smallest >= 0.5 / len(sae.columns)).double().mean()
        for part, members in shares.items():
            metric = share_in(part)
            self.latent_scores.append(LatentScores(metric.name, metric.label, members, is_quality=False))
            yield Scores(metric, {member: own.nanmean() for member, own in members.items()}, None)
        yield Scores(SHARED_LATENTS, shared, None)


def alone(sae: SparseAutoencoder, x: Tensor, part: str) -> Tensor:
    """Return activations [batch, d_in] of which only one part says something, as the module explains.

    Args:
        sae: a crosscoder.
        x: raw activations.
        part: the one that is kept.
    """
    own, centre = sae.columns[part], (sae.b_dec / sae.input_scale).detach().expand(len(x), -1)
    kept = centre.clone()
    kept[:, own] = x[:, own]
    return kept
