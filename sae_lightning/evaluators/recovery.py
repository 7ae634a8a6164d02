"""Which of the true features of synthetic data are among the decoder directions?"""

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from sae_lightning.evaluators.base import Evaluator, Scores
from sae_lightning.metrics import best_cosine, recovered_fraction
from sae_lightning.saes.init import Isotropic
from sae_lightning.saes.module import SAEModule

# Not a seed that somebody gives to the data: features and dictionary would be the same rows of one random stream.
_CHANCE_SEED = 0x5AE_C4A7CE


class Recovery(Evaluator):
    """Logs recovery_at_<threshold> and mean_best_cosine of the features of a synthetic source.

    A feature is recovered where the largest signed cosine to a decoder direction is strictly above the threshold. The
    floor is chance: the same for a random isotropic dictionary of equal size.

    Args:
        threshold: cosine above which a feature counts as recovered, between 0 and 1.
        every_n_validations: 1 or more; the last validation always counts.
    """

    def __init__(self, threshold: float = 0.8, every_n_validations: int = 1) -> None:
        super().__init__(every_n_validations)
        if not 0 < threshold < 1:
            raise ValueError(f"threshold={threshold}: expected a cosine between 0 and 1, for example 0.8")
        self.threshold = threshold
        self._chance: Tensor | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks that the data have known features."""
        super().setup(trainer, pl_module, stage)
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        if getattr(getattr(datamodule, "source", None), "features", None) is None:
            raise ValueError(
                f"Recovery needs data whose true features are known, and data={type(datamodule).__name__} has none: "
                "take SyntheticDataModule, or leave out Recovery"
            )

    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> dict[str, Scores]:
        """Reads the parameters; they are the same on every rank."""
        features = trainer.datamodule.source.features.to(module.device)  # type: ignore[attr-defined]
        best = {member: best_cosine(features, sae.W_dec.detach()) for member, sae in module.members.items()}
        if self._chance is None:
            sae = next(iter(module.members.values()))
            random = Isotropic().directions(sae.d_sae, sae.d_in, torch.Generator().manual_seed(_CHANCE_SEED))
            self._chance = best_cosine(features, random.to(features))
        return {
            f"recovery_at_{self.threshold:g}": Scores(
                {member: recovered_fraction(values, self.threshold) for member, values in best.items()},
                recovered_fraction(self._chance, self.threshold),
            ),
            "mean_best_cosine": Scores(
                {member: values.double().mean() for member, values in best.items()}, self._chance.double().mean()
            ),
        }
