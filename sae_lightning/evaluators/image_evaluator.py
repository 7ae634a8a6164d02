"""`ImageEvaluator`: latents drawn at random, and held-out images to see them on."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int64
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from sae_lightning import metrics
from sae_lightning.checks import check_share, check_whole
from sae_lightning.datamodules import ActivationDataModule, ClipImages
from sae_lightning.evaluators.base import Evaluator, data_name, datamodule_of, evaluated_members
from sae_lightning.evaluators.repeats import seed_of
from sae_lightning.interpretation.latents_on_images import ReadLatents
from sae_lightning.members import Member
from sae_lightning.saes.module import SAEModule
from sae_lightning.saes.step import Step

# Not a seed that somebody gives to data or SAEs.
_SEED = 0x91C7_04E5


class ImageEvaluator(Evaluator):
    """An evaluator that shows held-out images to some latents of each member.

    How often latents fire, and which are alive, is what this validation or test measures on `val_samples` activations.

    Args:
        n_images: held-out images, or as many as there are.
        max_frequency: latents that fire more often are not drawn.
        every_n_validations: the last validation always counts; 0 for that one alone.
    """

    def __init__(self, n_images: int, max_frequency: float, every_n_validations: int) -> None:
        super().__init__(every_n_validations)
        check_whole(1, n_images=n_images)
        check_share(max_frequency=max_frequency, hint="a share of activations, such as 0.001")
        self.n_images, self.max_frequency = n_images, max_frequency

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there are images."""
        super().setup(trainer, pl_module, stage)
        datamodule, name = datamodule_of(trainer), type(self).__name__
        if not isinstance(datamodule, ClipImages):
            raise ValueError(
                f"{name} needs a model that reads images, and data={data_name(trainer)} has none: "
                f"take ClipImages, or leave out {name}"
            )
        self.datamodule = datamodule

    def start(self, module: SAEModule) -> None:
        """Make fresh counters of firings, for members whose activations depend on the images."""
        self.saes = evaluated_members(module.trainer, module)
        self._firings = {member: metrics.Sparsity(sae.d_sae).to(module.device) for member, sae in self.saes.items()}

    def update(self, steps: Mapping[Member, Step]) -> None:
        """Take note of which latents fire."""
        for member, firings in self._firings.items():
            firings.update(steps[member].code)

    def frequencies(self) -> dict[Member, Float[Tensor, " d_sae"]]:
        """Return the share of held-out activations on which each latent fires, over all ranks, on the CPU."""
        return {member: firings.compute()["firing_frequency"].cpu() for member, firings in self._firings.items()}

    def draw(self, frequency: Float[Tensor, " d_sae"], n: int, repeat: int = 0) -> Int64[Tensor, " n_drawn"]:
        """Draw n latents that fire, and not too often; all of them where there are fewer.

        The same random order of latents is gone through for every member of one size.

        Returns:
            Their numbers in ascending order.
        """
        order = torch.randperm(len(frequency), generator=torch.Generator().manual_seed(seed_of(_SEED, repeat)))
        return order[self.eligible(frequency)[order]][:n].sort().values

    def eligible(self, frequency: Float[Tensor, " d_sae"]) -> Bool[Tensor, " d_sae"]:
        """Return which latents may be drawn."""
        return (frequency > 0) & (frequency <= self.max_frequency)

    def pool(self) -> Int64[Tensor, " n_images"]:
        """Return the numbers of held-out images that can be decoded, the same on every rank."""
        return self.datamodule.first_rows("heldout", self.n_images * self.datamodule.positions)[:, 0]

    def reader(self, module: SAEModule, member: Member, latents: Int64[Tensor, " n"]) -> ReadLatents:
        """Return what reads these latents of a member."""
        sae, latents = self.saes[member], latents.to(module.device)
        return lambda x: sae.encode(module.activations_for(member, x)).columns(latents).float().nan_to_num(0, 0, 0)


def clip_data(evaluator: Evaluator, trainer: Trainer) -> ActivationDataModule:
    """Return the datamodule of a trainer, whose model must be a CLIP model.

    Raises:
        ValueError: if it is none.
    """
    datamodule, name = datamodule_of(trainer), type(evaluator).__name__
    if datamodule is None or not datamodule.source.embeds_images:
        raise ValueError(
            f"{name} needs a CLIP model, and data={data_name(trainer)} has none: take ClipImages, or leave out {name}"
        )
    return datamodule


def image_tower_data(evaluator: Evaluator, trainer: Trainer) -> ActivationDataModule:
    """Return the datamodule of a trainer, whose activations must be those of an image tower.

    Raises:
        ValueError: if they are not.
    """
    datamodule, name = datamodule_of(trainer), type(evaluator).__name__
    if datamodule is None or not datamodule.source.reads_images:
        raise ValueError(
            f"{name} needs the image tower of a CLIP model, and data={data_name(trainer)} has none: "
            f"take ClipImages, or leave out {name}"
        )
    return datamodule
