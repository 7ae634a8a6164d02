"""`PictureEvaluator`: latents drawn at random, and held-out pictures to see them on."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int64
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from sae_lightning import metrics
from sae_lightning.datamodules import ClipImages
from sae_lightning.evaluators.base import Evaluator
from sae_lightning.interpretation.pictures import Read
from sae_lightning.saes.module import SAEModule, Step

# Not a seed that somebody gives to data or SAEs.
_SEED = 0x91C7_04E5


class PictureEvaluator(Evaluator):
    """An evaluator that shows held-out pictures to some latents of each member.

    How often latents fire, and which are alive, is what this validation or test finds on `val_samples` activations.

    Args:
        n_pictures: held-out pictures, or as many as there are.
        max_frequency: latents that fire more often are not drawn.
        every_n_validations: the last validation always counts; 0 for that one alone.
    """

    def __init__(self, n_pictures: int, max_frequency: float, every_n_validations: int) -> None:
        super().__init__(every_n_validations)
        if n_pictures < 1:
            raise ValueError(f"n_pictures={n_pictures}: expected at least 1")
        if not 0 < max_frequency <= 1:
            raise ValueError(
                f"max_frequency={max_frequency}: expected a share of activations, above 0 and at most 1, such as 0.001"
            )
        self.n_pictures, self.max_frequency = n_pictures, max_frequency

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks that there are pictures."""
        super().setup(trainer, pl_module, stage)
        datamodule, name = trainer.datamodule, type(self).__name__  # type: ignore[attr-defined]
        if not isinstance(datamodule, ClipImages):
            raise ValueError(
                f"{name} needs a model that reads pictures, and data={type(datamodule).__name__} has none: "
                f"take ClipImages, or leave out {name}"
            )

    def start(self, module: SAEModule) -> None:
        """Makes fresh counters of firings, for members whose activations depend on the pictures."""
        self.saes = self.asked(module.trainer, module)
        self._firings = {member: metrics.Sparsity(sae.d_sae).to(module.device) for member, sae in self.saes.items()}

    def update(self, steps: Mapping[str, Step]) -> None:
        """Takes note of which latents fire."""
        for member, firings in self._firings.items():
            firings.update(steps[member].code)

    def frequencies(self) -> dict[str, Float[Tensor, " d_sae"]]:
        """Share of held-out activations on which each latent fires, by member, over all ranks, on the CPU."""
        return {member: firings.compute()["firing_frequency"].cpu() for member, firings in self._firings.items()}

    def draw(self, frequency: Float[Tensor, " d_sae"], n: int) -> Int64[Tensor, " n_drawn"]:
        """Numbers of n latents that fire, and not too often, in ascending order; all of them where there are fewer.

        The same random order of latents is gone through for every member of one size.
        """
        order = torch.randperm(len(frequency), generator=torch.Generator().manual_seed(_SEED))
        return order[self.eligible(frequency)[order]][:n].sort().values

    def eligible(self, frequency: Float[Tensor, " d_sae"]) -> Tensor:
        """Which latents may be drawn."""
        return (frequency > 0) & (frequency <= self.max_frequency)

    def pool(self, datamodule: ClipImages) -> Int64[Tensor, " n_pictures"]:
        """Numbers of held-out pictures that can be decoded, the same on every rank."""
        return datamodule.first_rows("heldout", self.n_pictures * datamodule.positions)[:, 0]

    def reader(self, module: SAEModule, member: str, latents: Int64[Tensor, " n"]) -> Read:
        """What gives these latents of a member."""
        sae, latents = self.saes[member], latents.to(module.device)
        return lambda x: sae.encode(module.read_by(member, x)).columns(latents).float()
