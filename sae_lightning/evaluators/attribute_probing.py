"""Do a few latents tell what an image shows, as well as the activations do?

The counterpart of `SparseProbing` for the image tower of a CLIP model: the same probes, references and floor, on
attributes of images.
"""

from collections.abc import Sequence

from lightning.pytorch import LightningModule, Trainer
from typing_extensions import override

from sae_lightning.datamodules.labelled_images import LabelledImages
from sae_lightning.evaluators.image_evaluator import image_tower_data
from sae_lightning.evaluators.probes import Probing
from sae_lightning.probing.prepared_images import PreparedImages


class AttributeProbing(Probing):
    """Log what logistic probes on the k best latents tell: probe_accuracy_k<k> and probe_auroc_k<k>, held out.

    Each value of an attribute, such as red, is told from the other values of it, with as many positive as negative
    images; scores are means over all values of all attributes. An image is the mean of its latents over valid
    positions. probe_reconstruction_accuracy and probe_reconstruction_auroc are of a probe on the whole
    reconstruction.

    References and floors are those of SparseProbing: dense_probe, a probe on all of the activation; top_dimensions, the
    k best dimensions of the activation; random_directions, the k best of as many random directions as there are
    latents, after a ReLU. Floors are measured: the score of the same probes where each image has a random label.

    Args:
        attributes: which; by default all that have two values or more.
        ks: how many latents a probe reads, each 1 or more.
        train_images: training images for each attribute, all its values together, 20 or more. Their activations at
            all positions are held in memory.
        test_images: the same of held-out images.
        n_repeats: draws of images and of control labels; values are means over them.
        every_n_validations: 0 for the last validation alone, and `sae validate` and `sae test`.
    """

    declares = tuple(metric for metric in Probing.declares if "_ood" not in metric.name)

    def __init__(
        self,
        attributes: Sequence[str] | None = None,
        ks: Sequence[int] = (1, 5),
        train_images: int = 512,
        test_images: int = 256,
        n_repeats: int = 1,
        every_n_validations: int = 0,
    ) -> None:
        numbers = {"train_images": train_images, "test_images": test_images}
        super().__init__(ks, numbers, n_repeats, every_n_validations)
        self.attributes, self.train_images, self.test_images = attributes, train_images, test_images

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Draw the images, so that what is wrong with them shows before training."""
        super().setup(trainer, pl_module, stage)
        datamodule = image_tower_data(self, trainer)
        if not self._prepared:
            images = LabelledImages("AttributeProbing", datamodule, attributes=self.attributes)
            draws = range(self.n_repeats)
            self._prepared = [[PreparedImages(images, self.train_images, self.test_images, draw) for draw in draws]]
