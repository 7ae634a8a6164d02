"""Which true features of synthetic data are among the decoder directions, and do latents fire when they do?"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from jaxtyping import Float
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from sae_lightning.code import Code
from sae_lightning.evaluators.base import Evaluator, Items, Scores
from sae_lightning.metrics import FiringMatch, best_cosine, best_match, matched_cosine, uniqueness
from sae_lightning.metrics.random_dictionary import random_dictionary
from sae_lightning.saes.module import SAEModule, Step

# The matching takes two minutes for this many features and latents, and hours for a few times as many.
LARGEST_MATCHING = 16384

# A high uniqueness is no merit of its own, and the absolute cosines ask what the signed ones ask.
_NO_VERDICT = ("uniqueness", "mean_best_cosine_absolute", "matched_cosine_absolute")


class Recovery(Evaluator):
    """Compares decoder directions and firings with the true features and codes of a synthetic source.

    - recovery_at_<threshold>: share of features whose largest cosine to a direction is strictly above the threshold.
    - mean_best_cosine: mean over features of that largest cosine.
    - matched_cosine: mean cosine of the best one-to-one matching of features and directions; left out where there are
      more than 16384 of either.
    - uniqueness: distinct features that are the best match of some latent, per latent.
    - firing_precision, firing_recall, firing_f1: does a latent fire when its best match does? Means over latents for
      which the ratio exists: that fire, whose feature fires, either of the two. A dead latent lowers the last two.

    Cosines are signed; mean_best_cosine_absolute and matched_cosine_absolute ignore the sign. Floors are chance: the
    same for a random isotropic dictionary of equal size; those of the firings are 0, an SAE that does nothing.
    Intervals are over features, and for firings over latents.

    Args:
        threshold: cosine above which a feature counts as recovered, between 0 and 1.
        every_n_validations: 1 or more; the last validation always counts.
    """

    def __init__(self, threshold: float = 0.8, every_n_validations: int = 1) -> None:
        super().__init__(every_n_validations)
        if not 0 < threshold < 1:
            raise ValueError(f"threshold={threshold}: expected a cosine between 0 and 1, for example 0.8")
        self.threshold = threshold
        self._chance: dict[str, Tensor] | None = None
        self._firings: dict[str, FiringMatch] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks that the data have known features."""
        super().setup(trainer, pl_module, stage)
        check_truth(self, trainer.datamodule, "features")  # type: ignore[attr-defined]

    def start(self, module: SAEModule) -> None:
        """Finds the best match of each latent, where the data have true codes to compare firings with."""
        datamodule = module.trainer.datamodule  # type: ignore[attr-defined]
        if not hasattr(datamodule, "val_codes"):
            return
        features = datamodule.source.features.to(module.device)
        self._true_codes: Iterator[Code] = datamodule.val_codes()
        self._firings = {
            member: FiringMatch(len(features), best_match(sae.W_dec.detach(), features))
            for member, sae in module.members.items()
        }

    def update(self, steps: Mapping[str, Step]) -> None:
        """Takes in the latents of each member beside the true code of the same batch."""
        if self._firings:
            true_code = next(self._true_codes)
            for member, firing in self._firings.items():
                firing.update(steps[member].code, true_code)

    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> dict[str, Scores]:
        """Reads the parameters, which are the same on every rank, and adds the firings of all ranks."""
        features = trainer.datamodule.source.features.to(module.device)  # type: ignore[attr-defined]
        directions = {
            member: self._of_directions(features, sae.W_dec.detach()) for member, sae in module.members.items()
        }
        if self._chance is None:
            sae = next(iter(module.members.values()))
            self._chance = self._of_directions(features, random_dictionary(sae.d_sae, sae.d_in).to(features))
        scores = {
            name: _score(
                {member: values[name] for member, values in directions.items()},
                float(floor.mean()),
                None if name in _NO_VERDICT else "higher",
                paired=len(floor) == len(features),  # not where there are fewer matches than features
            )
            for name, floor in self._chance.items()
        }
        firings = {member: firing.compute() for member, firing in self._firings.items()}
        for name in next(iter(firings.values()), {}):
            of_latents = {member: values[name][~values[name].isnan()] for member, values in firings.items()}
            better: Literal["higher"] | None = "higher" if name == "f1" else None
            scores[f"firing_{name}"] = _score(of_latents, 0.0, better, paired=False)
        return scores

    def _of_directions(self, features: Tensor, W_dec: Tensor) -> dict[str, Tensor]:
        """Values whose mean is the metric: one for each feature, or one."""
        best = best_cosine(features, W_dec)
        scores = {
            f"recovery_at_{self.threshold:g}": best > self.threshold,
            "mean_best_cosine": best,
            "mean_best_cosine_absolute": best_cosine(features, W_dec, absolute=True),
            "uniqueness": uniqueness(features, W_dec)[None],
        }
        if max(len(features), len(W_dec)) <= LARGEST_MATCHING:
            scores["matched_cosine"] = matched_cosine(features, W_dec)
            scores["matched_cosine_absolute"] = matched_cosine(features, W_dec, absolute=True)
        return {name: values.double() for name, values in scores.items()}


def _score(values: Mapping[str, Tensor], floor: float, better: Literal["higher"] | None, paired: bool) -> Scores:
    means = {member: of.mean() for member, of in values.items()}
    return Scores(means, floor, better, Items.mean(values, paired) if better else None)


def check_truth(evaluator: Evaluator, datamodule: Any, what: str) -> None:
    """Refuses data without what the evaluator needs to know of them: true `features`, or also true `codes`."""
    has_features = getattr(getattr(datamodule, "source", None), "features", None) is not None
    if has_features and (what == "features" or hasattr(datamodule, "held_out")):
        return
    name = type(evaluator).__name__
    raise ValueError(
        f"{name} needs data whose true {what} are known, and data={type(datamodule).__name__} has none: "
        f"take SyntheticDataModule, or leave out {name}"
    )


def mean_firing(firing: FiringMatch) -> dict[str, Float[Tensor, ""]]:
    """firing_precision, firing_recall and firing_f1: means over the latents for which they are defined."""
    return {f"firing_{name}": values.nanmean() for name, values in firing.compute().items()}
