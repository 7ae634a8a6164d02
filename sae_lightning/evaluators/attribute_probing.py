"""Do a few latents tell what a picture shows, as well as the activations do?

The counterpart of `SparseProbing` for the image tower of a CLIP model: the same probes, references and floor, on
attributes of pictures.
"""

from collections.abc import Sequence

from lightning.pytorch import LightningModule, Trainer
from typing_extensions import override

from sae_lightning.evaluators.labelled_pictures import LabelledPictures, check_image_tower
from sae_lightning.evaluators.probes import Probing
from sae_lightning.probing.pictures import PreparedPictures


class AttributeProbing(Probing):
    """Logs what logistic probes on the k best latents tell: probe_accuracy_k<k> and probe_auroc_k<k>, held out.

    Each value of an attribute, such as red, is told from the other values of it, with as many positive as negative
    pictures; scores are means over all values of all attributes. A picture is the mean of its latents over the
    positions that count. probe_reconstruction_accuracy and probe_reconstruction_auroc are of a probe on the whole
    reconstruction.

    References and floors are those of SparseProbing: dense_probe, a probe on all of the activation; top_dimensions, the
    k best dimensions of the activation; random_directions, the k best of as many random directions as there are
    latents, after a ReLU. The floor is measured: the SAEs' mean score where each picture has a random label.

    Args:
        attributes: which; by default all that have two values or more.
        ks: how many latents a probe reads, each 1 or more.
        train_images: training pictures for each attribute, all its values together, 20 or more. Their activations at
            all positions are held in memory.
        test_images: the same of held-out pictures.
        every_n_validations: 0 for the last validation alone, and `sae validate` and `sae test`.
    """

    def __init__(
        self,
        attributes: Sequence[str] | None = None,
        ks: Sequence[int] = (1, 5),
        train_images: int = 512,
        test_images: int = 256,
        every_n_validations: int = 0,
    ) -> None:
        super().__init__(ks, {"train_images": train_images, "test_images": test_images}, every_n_validations)
        self.attributes, self.train_images, self.test_images = attributes, train_images, test_images

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Draws the pictures, so that what is wrong with them shows before training."""
        super().setup(trainer, pl_module, stage)
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        check_image_tower("AttributeProbing", datamodule)
        if not self._prepared:
            pictures = LabelledPictures("AttributeProbing", datamodule, attributes=self.attributes)
            self._prepared = [PreparedPictures(pictures, self.train_images, self.test_images)]
