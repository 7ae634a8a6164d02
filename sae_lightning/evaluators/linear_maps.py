"""What do the latents of a transcoder explain beyond the best linear map, and beyond its own skip path?

A linear map from what an MLP reads to what it answers explains much of it, and no latent is needed for that: a skip
path can learn it. Latents can, too, two for each of its directions. So it is the least that latents have to beat.

    explained_variance_beyond_linear_map = explained variance of the transcoder - that of the ridge regression
"""

from collections.abc import Iterator, Mapping

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from sae_lightning.checks import check_whole
from sae_lightning.datamodules.base import ActivationDataModule
from sae_lightning.distributed import all_gather_object
from sae_lightning.evaluators.base import Evaluator, data_name, datamodule_of
from sae_lightning.evaluators.reconstruction import EXPLAINED_VARIANCE, EXPLAINS, FVU
from sae_lightning.evaluators.scores import Items, Scores
from sae_lightning.members import LINEAR_MAP, Member
from sae_lightning.metric import Metric
from sae_lightning.metrics.functional import moments_merge, moments_update, squared_error_update
from sae_lightning.metrics.linear_map import LinearMap, fit_linear_maps
from sae_lightning.saes.module import SAEModule
from sae_lightning.saes.step import Step

LOW_RANK = "linear_map_of_rank"
BEYOND_LINEAR = Metric(
    "explained_variance_beyond_linear_map",
    "Explained variance beyond the best linear map",
    EXPLAINS,
    better="higher",
    floor="the linear map of full rank, by ridge regression",
    computed="explained variance of the target minus that of the linear map of full rank from the same source",
    is_headline=True,
)
BY_SKIP = Metric(
    "explained_variance_by_skip",
    "Explained variance by the skip path alone",
    EXPLAINS,
    floor="a skip path that is zero",
    computed="explained variance of the target by the skip path and the best constant, without latents",
)
SAMPLES_PER_DIMENSION = 50


class LinearMaps(Evaluator):
    """Log explained_variance_beyond_linear_map and explained_variance_by_skip of transcoders, and the maps themselves.

    Beside the members stand linear_map, a ridge regression of full rank, which is what a skip path alone can reach, and
    linear_map_of_rank, of as many directions as a transcoder has active latents (reduced-rank regression): both with
    explained_variance and fvu. They are fitted once, on training data.

    Args:
        rank: of the second map, as a rule the l0 of the transcoders.
        samples_per_dimension: training activations for the fit, per dimension of what is read, 5 or more.
        every_n_validations: 1 or more; the last validation always counts.
    """

    declares = (BEYOND_LINEAR, BY_SKIP, EXPLAINED_VARIANCE, FVU)
    takes_split = True
    takes_transcoders = True

    def __init__(
        self, rank: int, samples_per_dimension: int = SAMPLES_PER_DIMENSION, every_n_validations: int = 1
    ) -> None:
        super().__init__(every_n_validations)
        check_whole(1, rank=rank, hint="as a rule the k of the transcoders")
        check_whole(5, samples_per_dimension=samples_per_dimension)
        self.rank, self.samples_per_dimension = rank, samples_per_dimension
        self.maps: dict[str, dict[str, LinearMap]] = {}
        """Maps by the part that is read and by name, once they are fitted."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there are transcoders, and data to fit to."""
        super().setup(trainer, pl_module, stage)
        assert isinstance(pl_module, SAEModule)
        saes = pl_module.all_members.values()
        if not (any if pl_module.targets else all)(sae.is_transcoder for sae in saes):  # some are shown the target
            raise ValueError(
                "LinearMaps: what an SAE reads is what it answers, and the best linear map is the identity: expected "
                "transcoders, with model.targets, or source and target; or leave it out"
            )
        datamodule = datamodule_of(trainer)
        if datamodule is None:
            raise ValueError(f"LinearMaps fits to training data, and data={data_name(trainer)} gives no sample of them")
        self._datamodule = datamodule

    def start(self, module: SAEModule) -> None:
        """Fit the maps the first time, and make fresh sums."""
        self.maps = self.maps or fit_by_part(
            self._datamodule, module, {LINEAR_MAP: None, LOW_RANK: self.rank}, self.samples_per_dimension
        )
        self._errors: dict[Member, list[Tensor]] = {}
        self._moments: dict[str, list[Tensor]] = {}
        self._left_by_skip: dict[Member, list[Tensor]] = {}
        self._skips = {member: sae.W_skip for member, sae in module.members.items() if sae.W_skip is not None}
        self._scales = {
            member: sae.input_scale / sae.target_scale for member, sae in module.members.items() if sae.is_transcoder
        }

    def update(self, steps: Mapping[Member, Step]) -> None:
        """Add up the squared errors of one batch."""
        parts: set[str] = set()
        for member, step in steps.items():
            if member.part not in parts and member in self._scales:
                parts.add(member.part)
                self._moments.setdefault(member.part, []).append(moments_update(step.target))
                for name, linear in self.maps[member.part].items():
                    self._add(Member(name, 0, member.part), step.target, linear(step.x))
            self._add(member, step.target, step.x_hat)
            if member in self._skips:
                skipped = step.x.float() @ self._skips[member].detach() * self._scales[member]
                self._left_by_skip.setdefault(member, []).append(moments_update(step.target - skipped))

    def _add(self, member: Member, target: Tensor, answer: Tensor) -> None:
        self._errors.setdefault(member, []).append(squared_error_update(target, answer))

    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> Iterator[Scores]:
        """Compute the scores; the differences are made of batches, whose activations follow one another in the text."""
        errors = {member: of_all_ranks(own) for member, own in self._errors.items()}
        deviations = {part: squared_deviations(of_all_ranks(own)) for part, own in self._moments.items()}
        explained = {member: float(1 - own.sum() / deviations[member.part].sum()) for member, own in errors.items()}
        maps = {member: value for member, value in explained.items() if member.policy in (LINEAR_MAP, LOW_RANK)}
        yield Scores(EXPLAINED_VARIANCE, maps, floor=None)
        yield Scores(FVU, {member: 1 - value for member, value in maps.items()}, floor=None)
        beyond = {member: errors[Member(LINEAR_MAP, 0, member.part)] - errors[member] for member in module.members}
        denominators = {member: deviations[member.part] for member in beyond}
        yield Scores(
            BEYOND_LINEAR,
            {member: float(own.sum() / denominators[member].sum()) for member, own in beyond.items()},
            0.0,
            Items(beyond, denominators),
        )
        if self._left_by_skip:
            left = {member: squared_deviations(of_all_ranks(own)).sum() for member, own in self._left_by_skip.items()}
            by_skip = {member: float(1 - own / deviations[member.part].sum()) for member, own in left.items()}
            yield Scores(BY_SKIP, by_skip, 0.0)


def fit_by_part(
    datamodule: ActivationDataModule,
    module: SAEModule,
    ranks: Mapping[str, int | None],
    samples_per_dimension: int = SAMPLES_PER_DIMENSION,
) -> dict[str, dict[str, LinearMap]]:
    """Fit linear maps from source to target of transcoders to training data, the same on every rank.

    Args:
        datamodule: of the run.
        module: whose members are transcoders.
        ranks: of each map by name, None for full rank.
        samples_per_dimension: activations for the fit, per dimension of the widest source.

    Returns:
        Maps by the part that is read and by name.
    """
    firsts: dict[str, Member] = {}
    for member, sae in module.all_members.items():
        if sae.is_transcoder:
            firsts.setdefault(member.part, member)
    widest = max(sae.d_in for sae in module.all_members.values())
    samples = datamodule.calibration_sample(samples_per_dimension * widest)
    maps: dict[str, dict[str, LinearMap]] = {}
    for part, member in firsts.items():
        x, y = module.activations_for(member, samples), module.target_for(member, samples)
        assert y is not None
        maps[part] = dict(zip(ranks, fit_linear_maps(x, y, tuple(ranks.values())), strict=True))
    return maps


def of_all_ranks(own: list[Tensor]) -> Tensor:
    """Return what batches of all ranks have, stacked; a collective call."""
    return torch.cat(all_gather_object(torch.stack(own).cpu()))


def squared_deviations(moments: Tensor) -> Tensor:
    """Return for each batch the summed squared deviation from the mean of all."""
    mean = moments_merge(moments)[2:]
    return moments[:, 1] + moments[:, 0] * (moments[:, 2:] - mean).square().sum(1)
