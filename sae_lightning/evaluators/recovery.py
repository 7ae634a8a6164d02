"""Which true features of synthetic data are among the decoder directions, and do latents fire when they do?"""

from collections.abc import Iterator, Mapping
from math import nan
from statistics import fmean
from typing import Literal

import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from sae_lightning.checks import check_inside
from sae_lightning.code import Code
from sae_lightning.datamodules.base import ActivationDataModule
from sae_lightning.evaluators.base import Evaluator, data_name, datamodule_of
from sae_lightning.evaluators.scores import Items, Scores
from sae_lightning.members import Member
from sae_lightning.metric import Metric, Question
from sae_lightning.metrics import FiringMatch, best_cosine, best_match, matched_cosine, uniqueness
from sae_lightning.metrics.random_dictionary import random_dictionaries
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.data import columns_by_part
from sae_lightning.saes.module import SAEModule
from sae_lightning.saes.step import Step

# The matching takes two minutes for this many features and latents, and hours for a few times as many.
LARGEST_MATCHING = 16384

FINDS_FEATURES = Question("recovery", "Does it find the true features?", order=30)
_CHANCE = "a random isotropic dictionary of equal size"
_NO_FIRING = "no latent fires"
_HEADLINE_THRESHOLD = 0.8


def recovery_at(threshold: float) -> Metric:
    """Describe the share of features whose nearest direction is above a threshold."""
    return Metric(
        f"recovery_at_{threshold:g}",
        f"True features recovered (cosine above {threshold:g})",
        FINDS_FEATURES,
        better="higher",
        floor=_CHANCE,
        computed="share of true features whose largest cosine to a decoder direction is above the threshold",
        is_headline=threshold == _HEADLINE_THRESHOLD,
    )


MEAN_BEST_COSINE = Metric(
    "mean_best_cosine",
    "Nearest direction to each true feature (cosine)",
    FINDS_FEATURES,
    better="higher",
    floor=_CHANCE,
    computed="mean over true features of the largest cosine to a decoder direction",
)
# The absolute cosines ask what the signed ones ask, and a verdict asks once.
MEAN_BEST_COSINE_ABSOLUTE = Metric(
    "mean_best_cosine_absolute",
    "Nearest direction of either sign to each true feature (cosine)",
    FINDS_FEATURES,
    floor=_CHANCE,
    computed="mean over true features of the largest absolute cosine to a decoder direction",
)
# A high uniqueness is no merit of its own.
UNIQUENESS = Metric(
    "uniqueness",
    "Distinct features a latent",
    FINDS_FEATURES,
    floor=_CHANCE,
    computed="number of distinct true features that are the best match of some latent, over the number of latents",
)
MATCHED_COSINE = Metric(
    "matched_cosine",
    "True features matched one to one (cosine)",
    FINDS_FEATURES,
    better="higher",
    floor=_CHANCE,
    computed="mean cosine of the best one-to-one matching of true features and decoder directions",
)
MATCHED_COSINE_ABSOLUTE = Metric(
    "matched_cosine_absolute",
    "True features matched one to one, either sign (cosine)",
    FINDS_FEATURES,
    floor=_CHANCE,
    computed="mean absolute cosine of the best one-to-one matching of true features and decoder directions",
)
FIRING_PRECISION = Metric(
    "firing_precision",
    "Fires when its feature does (precision)",
    FINDS_FEATURES,
    floor=_NO_FIRING,
    computed="of the samples on which a latent fires, the share on which its best match does; mean over latents",
)
FIRING_RECALL = Metric(
    "firing_recall",
    "Fires when its feature does (recall)",
    FINDS_FEATURES,
    floor=_NO_FIRING,
    computed="of the samples on which the best match of a latent fires, the share on which the latent does; mean over "
    "latents",
)
FIRING_F1 = Metric(
    "firing_f1",
    "Fires when its feature does (f1)",
    FINDS_FEATURES,
    better="higher",
    floor=_NO_FIRING,
    computed="harmonic mean of the precision and the recall of a latent; mean over latents",
)
READ_COSINE = Metric(
    "mean_best_cosine_read",
    "Nearest encoder direction to each true feature (cosine)",
    FINDS_FEATURES,
    better="higher",
    floor=_CHANCE,
    computed="mean over true features of the largest cosine of what is read of it to an encoder direction",
)
BOTH_SIDES = Metric(
    "same_latent_reads_and_writes",
    "True features that one latent reads and writes",
    FINDS_FEATURES,
    better="higher",
    floor=_CHANCE,
    computed="share of true features whose nearest encoder direction is that of the latent with the nearest decoder "
    "direction",
)
_OF_FIRINGS = {"precision": FIRING_PRECISION, "recall": FIRING_RECALL, "f1": FIRING_F1}


class Recovery(Evaluator):
    """Compare decoder directions and firings with the true features and codes of a synthetic source.

    - recovery_at_<threshold>: share of features whose largest cosine to a direction is strictly above the threshold.
    - mean_best_cosine: mean over features of that largest cosine.
    - matched_cosine: mean cosine of the best one-to-one matching of features and directions; left out where there are
      more than 16384 of either.
    - uniqueness: distinct features that are the best match of some latent, per latent.
    - firing_precision, firing_recall, firing_f1: does a latent fire when its best match does? Means over latents for
      which the ratio exists: that fire, whose feature fires, either of the two. A dead latent lowers the last two.

    Cosines are signed; mean_best_cosine_absolute and matched_cosine_absolute ignore the sign. Floors are chance, for
    each size: the same for a random isotropic dictionary of equal size, the mean over one draw, or over as many as have
    1024 directions in all; those of the firings are 0, an SAE that does nothing. Intervals are over features, and for
    firings over latents.

    Of a transcoder, on data with an answer, decoder directions are compared with the features in the answer, and also

    - mean_best_cosine_read: the same for encoder directions and the features in what is read.
    - same_latent_reads_and_writes: share of features for which the nearest of both are of one latent.

    Args:
        threshold: cosine above which a feature counts as recovered, between 0 and 1.
        every_n_validations: 1 or more; the last validation always counts.
    """

    declares = (
        recovery_at(_HEADLINE_THRESHOLD),
        MEAN_BEST_COSINE,
        MEAN_BEST_COSINE_ABSOLUTE,
        UNIQUENESS,
        MATCHED_COSINE,
        MATCHED_COSINE_ABSOLUTE,
        FIRING_PRECISION,
        FIRING_RECALL,
        FIRING_F1,
        READ_COSINE,
        BOTH_SIDES,
    )
    takes_transcoders = True
    takes_crosscoders = True

    def __init__(self, threshold: float = 0.8, every_n_validations: int = 1) -> None:
        super().__init__(every_n_validations)
        check_inside(0, 1, threshold=threshold, hint="a cosine, for example 0.8")
        self.threshold = threshold
        self._chance: dict[tuple[int, str], dict[Metric, float]] = {}
        self._firings: dict[Member, FiringMatch] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the data have known features."""
        super().setup(trainer, pl_module, stage)
        self._datamodule, self._features = data_with_truth(self, trainer, "features")
        assert isinstance(pl_module, SAEModule)
        self._targets = pl_module.targets

    def _features_of(self, part: str) -> Tensor:
        """Return the true features in a part of the activations; null versions are compared with those of the data."""
        widths = self._datamodule.hook_widths
        _, hook = self._datamodule.nulls_of_parts.get(part, ("", part))
        return self._features[:, columns_by_part(widths)[hook]] if hook in widths else self._features

    def _written(self, part: str, sae: SparseAutoencoder | None = None) -> Tensor:
        """Return the true features in what members that read a part reconstruct, scaled as a crosscoder scales it."""
        features = self._features_of(self._targets.get(part, part))
        return features if sae is None or not sae.crosscoder else features.to(sae.input_scale) * sae.input_scale

    def start(self, module: SAEModule) -> None:
        """Find the best match of each latent, where the data have true codes to compare firings with."""
        true_codes = self._datamodule.val_codes()
        if true_codes is None:
            return
        self._true_codes: Iterator[Code] = true_codes
        self._firings = {
            member: FiringMatch(len(features), best_match(sae.W_dec.detach(), features))
            for member, sae in module.members.items()
            for features in [self._written(member.part, sae).to(module.device)]
        }

    def update(self, steps: Mapping[Member, Step]) -> None:
        """Take in the latents of each member beside the true code of the same batch."""
        if self._firings:
            true_code = next(self._true_codes)
            for member, firing in self._firings.items():
                firing.update(steps[member].code, true_code)

    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> Iterator[Scores]:
        """Read the parameters, which are the same on every rank, and add the firings of all ranks."""
        by_member = {member: self._compare(sae, member.part) for member, sae in module.members.items()}
        for d_sae, part in {(sae.d_sae, member.part) for member, sae in module.members.items()} - set(self._chance):
            self._chance[d_sae, part] = self._chance_of(d_sae, part, module.device)
        measured = [metric for of_member in by_member.values() for metric in of_member]
        for metric in dict.fromkeys(measured):
            values = {member: of_member[metric] for member, of_member in by_member.items() if metric in of_member}
            floors = {member: self._chance[module.members[member].d_sae, member.part][metric] for member in values}
            # Not paired where an SAE has fewer matches than there are features.
            paired = {len(each) for each in values.values()} == {len(self._features)}
            yield _mean_scores(metric, values, floors, paired)
        firings = {member: firing.compute() for member, firing in self._firings.items()}
        for name in next(iter(firings.values()), {}):
            defined = {member: values[name][~values[name].isnan()] for member, values in firings.items()}
            yield _mean_scores(
                _OF_FIRINGS[name], defined, 0.0, False, "it fires on nothing that it could be right about"
            )

    def _compare(self, sae: SparseAutoencoder, part: str) -> dict[Metric, Tensor]:
        """Compare what an SAE writes with the true features, and what a transcoder reads."""
        features = self._written(part, sae).to(sae.W_dec.device)
        values = self._compare_directions(features, sae.W_dec.detach())
        if sae.is_transcoder:
            read, rows = self._features_of(part).to(sae.W_dec.device), sae.W_enc.detach().T.nan_to_num()
            values[READ_COSINE] = best_cosine(read, rows).double()
            same = best_match(read, rows) == best_match(features, sae.W_dec.detach().nan_to_num())
            values[BOTH_SIDES] = same.double()
        return values

    def _chance_of(self, d_sae: int, part: str, device: torch.device) -> dict[Metric, float]:
        """Return the scores of random dictionaries of so many directions, means over draws."""
        features = self._written(part).to(device)
        draws = [
            {metric: float(values.mean()) for metric, values in self._compare_directions(features, rows).items()}
            for rows in (rows.to(features) for rows in random_dictionaries(d_sae, features.shape[1]))
        ]
        chance = {metric: fmean(draw[metric] for draw in draws) for metric in draws[0]}
        if part in self._targets:
            read = self._features_of(part).to(device)
            dictionaries = random_dictionaries(d_sae, read.shape[1])
            chance[READ_COSINE] = fmean(float(best_cosine(read, rows.to(read)).mean()) for rows in dictionaries)
            chance[BOTH_SIDES] = 1 / d_sae
        return chance

    def _compare_directions(self, features: Tensor, W_dec: Tensor) -> dict[Metric, Tensor]:
        """Return values whose mean is the metric: one for each feature, or one."""
        is_finite = bool(W_dec.isfinite().all())
        W_dec = W_dec.nan_to_num()  # noqa: N806 - no matching exists with numbers that are none
        best = best_cosine(features, W_dec)
        values = {
            recovery_at(self.threshold): best > self.threshold,
            MEAN_BEST_COSINE: best,
            MEAN_BEST_COSINE_ABSOLUTE: best_cosine(features, W_dec, absolute=True),
            UNIQUENESS: uniqueness(features, W_dec)[None],
        }
        if max(len(features), len(W_dec)) <= LARGEST_MATCHING:
            values[MATCHED_COSINE] = matched_cosine(features, W_dec)
            values[MATCHED_COSINE_ABSOLUTE] = matched_cosine(features, W_dec, absolute=True)
        return {metric: each.double() if is_finite else each.double() * nan for metric, each in values.items()}


def _mean_scores(
    metric: Metric,
    values: Mapping[Member, Tensor],
    floor: float | Mapping[Member, float],
    paired: bool,
    undefined: str = Scores.undefined,
) -> Scores:
    means = {member: values_of_member.mean() for member, values_of_member in values.items()}
    items = Items.mean(values, paired) if metric.better else None
    return Scores(metric, means, floor, items, undefined=undefined)


def data_with_truth(
    evaluator: Evaluator, trainer: Trainer, what: Literal["features", "codes"]
) -> tuple[ActivationDataModule, Float[Tensor, "n_features d_in"]]:
    """Return the datamodule of the trainer and its true features.

    Args:
        evaluator: which needs them.
        trainer: of the run.
        what: must be known: `features`, or also `codes`.

    Raises:
        ValueError: if it is not.
    """
    datamodule = datamodule_of(trainer)
    features = None if datamodule is None else datamodule.source.features
    if datamodule is None or features is None or (what == "codes" and datamodule.held_out() is None):
        name = type(evaluator).__name__
        raise ValueError(
            f"{name} needs data whose true {what} are known, and data={data_name(trainer)} has none: "
            f"take SyntheticDataModule, or leave out {name}"
        )
    return datamodule, features


def mean_firing(firing: FiringMatch) -> dict[Metric, Float[Tensor, ""]]:
    """Return means over the latents for which precision, recall and f1 are defined."""
    return {_OF_FIRINGS[name]: values.nanmean() for name, values in firing.compute().items()}
