"""How close are reconstructions to the activations?"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torchmetrics
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from sae_lightning.datamodules.base import ActivationDataModule
from sae_lightning.distributed import all_gather_object, all_reduce_sum, join_members
from sae_lightning.evaluators.base import Evaluator, datamodule_of
from sae_lightning.evaluators.scores import Items, Scores
from sae_lightning.members import Member
from sae_lightning.metric import Metric, Question
from sae_lightning.metrics import CosineSimilarity, ExplainedVariance, MeanPrediction, RelativeNorm
from sae_lightning.metrics.functional import moments_merge, moments_update
from sae_lightning.saes.module import SAEModule
from sae_lightning.saes.step import Step

EXPLAINS = Question("explain", "Does it explain the activations, sparsely?", order=10)
_FLOOR = "predicting the mean of the data"
EXPLAINED_VARIANCE = Metric(
    "explained_variance",
    "Explained variance",
    EXPLAINS,
    better="higher",
    floor=_FLOOR,
    computed="1 - sum ||x - x_hat||^2 / sum ||x - mean(x)||^2 over the whole held-out set, never clamped",
    is_headline=True,
)
FVU = Metric("fvu", "Fraction of variance unexplained", EXPLAINS, floor=_FLOOR, computed="1 - explained variance")
COSINE = Metric(
    "cosine",
    "Cosine of activation and reconstruction",
    EXPLAINS,
    floor=_FLOOR,
    computed="mean over samples of the cosine of x and x_hat",
)
RELATIVE_NORM = Metric(
    "relative_norm",
    "Norm of the reconstruction, relative",
    EXPLAINS,
    floor=_FLOOR,
    computed="mean norm of x_hat over mean norm of x",
)
WITHOUT_MASSIVE = Metric(
    "explained_variance_without_massive",
    "Explained variance, without massive activations",
    EXPLAINS,
    better="higher",
    floor=_FLOOR,
    computed="explained variance over the held-out activations whose norm is at most 10 times the median norm",
)
MASSIVE_FRACTION = Metric(
    "massive_fraction",
    "Share of activations left out as massive",
    EXPLAINS,
    floor="the same: none takes part",
    computed="held-out activations whose norm is above max_norm_ratio times the median norm, over all held-out ones",
)


def beyond(null: str) -> Metric:
    """Describe the explained variance beyond that of a null."""
    noise = "Gaussian noise" if null == "gaussian" else f"{null} noise"
    return Metric(
        f"explained_variance_beyond_{null}",
        f"Explained variance beyond {noise}",
        EXPLAINS,
        better="higher",
        floor="explaining as much of the noise",
        computed=f"explained variance minus that of the same policy and seed trained on {null} noise",
    )


class Reconstruction(Evaluator):
    """Log explained_variance, fvu, cosine and relative_norm; floors are those of predicting the mean of the data.

    Where the data have null versions, also explained_variance_beyond_<null> for the SAEs of the real activations: how
    much more is explained of these than the same policy and seed explains of the null. At equal l0, as TopK and
    BatchTopK have, what is explained beyond Gaussian noise of equal mean and covariance is owed to structure beyond
    second order. Its floor is 0; it may be negative.

    Where massive activations were left out of the held-out data, massive_fraction says how many. Where they were kept,
    with max_norm_ratio null, explained_variance_without_massive is that of all others.

    Of a transcoder all this is said of its target, beside which the best linear map has to be seen (`LinearMaps`); of a
    crosscoder of its parts together, each scaled by itself as in training.

    Args:
        every_n_validations: 1 or more; the last validation always counts.
    """

    declares = (EXPLAINED_VARIANCE, FVU, COSINE, RELATIVE_NORM, beyond("NULL"), WITHOUT_MASSIVE, MASSIVE_FRACTION)

    _datamodule: ActivationDataModule | None = None

    takes_split = True
    takes_transcoders = True
    takes_crosscoders = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the datamodule, which knows what is massive."""
        super().setup(trainer, pl_module, stage)
        self._datamodule = datamodule_of(trainer)
        assert isinstance(pl_module, SAEModule)
        self._targets = pl_module.targets

    def start(self, module: SAEModule) -> None:
        """Make fresh metrics."""
        massive = None if self._datamodule is None else self._datamodule.massive
        self._keeps_massive = massive is not None and not massive.leaves_out
        self._without_massive: dict[Member, ExplainedVariance] = {}
        self._errors_without: dict[Member, list[Any]] = {}
        self._moments_without: dict[str, list[Tensor]] = {}
        self._n_massive = torch.zeros(1, dtype=torch.int64, device=module.device)
        self._metrics: dict[Metric, dict[Member, torchmetrics.Metric]] = {
            EXPLAINED_VARIANCE: {}, COSINE: {}, RELATIVE_NORM: {},
        }  # fmt: skip
        self._mean_predictions: dict[str, MeanPrediction] = {}
        self._firsts: dict[str, Member] = {}
        for member, sae in module.members.items():
            if member.part not in self._firsts:
                self._firsts[member.part] = member
                self._mean_predictions[member.part] = MeanPrediction(sae.d_out).to(module.device)
            self._metrics[EXPLAINED_VARIANCE][member] = ExplainedVariance(sae.d_out).to(module.device)
            if self._keeps_massive:
                self._without_massive[member] = ExplainedVariance(sae.d_out).to(module.device)
            self._metrics[COSINE][member] = CosineSimilarity().to(module.device)
            self._metrics[RELATIVE_NORM][member] = RelativeNorm().to(module.device)
        self._errors: dict[Member, list[Any]] = {member: [] for member in module.members}
        self._moments: dict[str, list[Tensor]] = {part: [] for part in self._firsts}

    def update(self, steps: Mapping[Member, Step]) -> None:
        """Take in target and x_hat of each member; all that read one part have the same target."""
        for member, step in steps.items():
            for members in self._metrics.values():
                members[member].update(step.target, step.x_hat)
            # The sum so far; the differences at the end are the batches' own.
            self._errors[member].append(self._metrics[EXPLAINED_VARIANCE][member].squared_error)
        for part, member in self._firsts.items():
            self._mean_predictions[part].update(steps[member].target)
            self._moments[part].append(moments_update(steps[member].target))
            if self._keeps_massive:
                self._update_without_massive(part, steps)

    def _update_without_massive(self, part: str, steps: Mapping[Member, Step]) -> None:
        assert self._datamodule is not None
        first = steps[self._firsts[part]]
        massive = self._datamodule.is_massive(first.x, part)
        if massive is None:  # a null
            return
        if part in self._targets:
            at_target = self._datamodule.is_massive(first.target, self._targets[part])
            massive = massive if at_target is None else massive | at_target
        self._n_massive += massive.sum()
        kept = ~massive
        self._moments_without.setdefault(part, []).append(moments_update(first.target[kept]))
        for member, step in steps.items():
            if member.part == part:
                self._without_massive[member].update(step.target[kept], step.x_hat[kept])
                errors = self._errors_without.setdefault(member, [])
                errors.append(self._without_massive[member].squared_error)

    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> Iterator[Scores]:
        """Compute all four metrics, and the differences to nulls."""
        floors = {part: metric.compute() for part, metric in self._mean_predictions.items()}
        for metric, members in self._metrics.items():
            values = {member: state.compute() for member, state in members.items()}
            floor = {part: values_of_mean.get(metric.name, 0.0) for part, values_of_mean in floors.items()}
            yield Scores(
                metric,
                values,
                floor,
                self._items(self._errors, self._moments) if metric == EXPLAINED_VARIANCE else None,
            )
            if metric == EXPLAINED_VARIANCE:
                explained = join_members({member: value.cpu() for member, value in values.items()})
        yield from self._scores_about_massive()
        yield Scores(FVU, {member: 1 - value for member, value in explained.items()}, 1.0)
        datamodule = datamodule_of(trainer)
        nulls: dict[str, dict[str, str]] = {}
        for part, (null, hook) in (datamodule.nulls_of_parts if datamodule is not None else {}).items():
            nulls.setdefault(null, {})[hook] = part
        for null, part_of in nulls.items():
            differences = {  # controls are of the activations alone
                member: value - explained[on_null]
                for member, value in explained.items()
                if member.part in part_of
                and (on_null := Member(member.policy, member.seed, part_of[member.part])) in explained
            }
            yield Scores(beyond(null), differences, dict.fromkeys((member.part for member in differences), 0.0))

    def _scores_about_massive(self) -> Iterator[Scores]:
        """Say what massive activations are left out, or what they decide; nothing where there are none."""
        if self._keeps_massive and int(all_reduce_sum(self._n_massive)):
            values = {member: self._without_massive[member].compute() for member in self._errors_without}
            items = self._items(self._errors_without, self._moments_without)
            yield Scores(WITHOUT_MASSIVE, values, dict.fromkeys(self._moments_without, 0.0), items)
        elif self._datamodule is not None and not self._keeps_massive:
            counts = zip(*all_gather_object(self._datamodule.massive_in_validation()), strict=True)
            n_massive, n = map(sum, counts)
            if n_massive:
                members = self._metrics[EXPLAINED_VARIANCE]
                yield Scores(MASSIVE_FRACTION, dict.fromkeys(members, n_massive / n), n_massive / n)

    def _items(self, error_sums: Mapping[Member, list[Any]], moments_by_part: Mapping[str, list[Tensor]]) -> Items:
        """Split explained variance by batches, whose activations follow one another in the text."""
        errors = {
            member: torch.stack(sums).diff(prepend=sums[0].new_zeros(1)).cpu() for member, sums in error_sums.items()
        }
        moments = {part: torch.stack(batches).cpu() for part, batches in moments_by_part.items()}
        ranks = all_gather_object((errors, moments))
        deviations = {}
        for part in moments:
            batches = torch.cat([moments_of_rank[part] for _, moments_of_rank in ranks])
            mean = moments_merge(batches)[2:]
            deviations[part] = batches[:, 1] + batches[:, 0] * (batches[:, 2:] - mean).square().sum(1)
        denominators = {member: deviations[member.part] for member in errors}
        numerators = {
            member: denominators[member] - torch.cat([errors_of_rank[member] for errors_of_rank, _ in ranks])
            for member in errors
        }
        return Items(numerators, denominators)
