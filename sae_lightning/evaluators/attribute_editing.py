"""Does an SAE hold an attribute of a picture, such as its colour, and nothing else, in latents of its own?

The counterpart of `CausalEditing` for the image tower of a CLIP model, with the score of RAVEL (Huang, Wu, Potts, Geva,
Geiger 2024, arXiv 2402.17700) and the masks of SAEBench (Karvonen et al. 2025, arXiv 2503.09532). Of one attribute at a
time, the latents that a trained mask names go from another picture into the one that the model sees, at each position
from the same position.

    cause = share of pairs where the zero-shot answer about the attribute becomes that of the other picture
    isolation = share of pairs where the answer about another attribute stays that of its own
    score = (cause + isolation) / 2
"""

import re
from collections.abc import Callable, Sequence

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from sae_lightning.causal.pictures import PictureAsker, find_known_pictures
from sae_lightning.causal.swaps import Swaps
from sae_lightning.evaluators.base import Scores
from sae_lightning.evaluators.editing import Editing, mean_of_shares
from sae_lightning.evaluators.edits import check_one_hook
from sae_lightning.evaluators.labelled_pictures import LabelledPictures, check_image_tower
from sae_lightning.saes.module import SAEModule

_SEED = 0


class AttributeEditing(Editing):
    """Logs attribute_cause, attribute_isolation and attribute_score, their mean: can attributes be edited by latents?

    The latents are chosen by a mask that is trained for each attribute and member, on training pictures; values are
    means over attributes, on held-out pictures. attribute_score_<attribute> is that of one attribute. The two pictures
    of an isolation pair differ in both attributes, and the model answers rightly about both. The reconstruction error
    is not added back. The floor leaves the model alone: cause 0, isolation 1, score 0.5.

    Positions are swapped one by one, each with the same position of the other picture: a patch keeps its place. So
    what is somewhere else in the other picture (where the object is, how many there are) can only be swapped with the
    patches that show it, those of the background included, and colour arrives where the other picture has the object.
    What an attribute of the whole picture costs is seen in the references, which swap in the same way.

    References: full_swap, all of the activations that count, which has the largest cause that can be had and no
    isolation; neurons, pca and random_rotation, masks over the raw dimensions, over principal components of the
    training activations, and over a random orthonormal basis.

    Args:
        attributes: which, two or more; by default all that have two values or more.
        n_images: pictures that the model is asked about, for each attribute, in training and in test. Their activations
            at all positions are held in memory.
        n_train_pairs: pairs of each kind, cause and isolation, that a mask is trained on, for each attribute.
        n_test_pairs: pairs of each kind that it is tested on.
        n_epochs: how often training goes through its pairs.
        batch_size: pairs in a step of training, of both kinds together, 2 or more.
        learning_rate: of the mask, by Adam.
        every_n_validations: 0 for the last validation alone, and `sae validate` and `sae test`.
    """

    prefix = "attribute"

    def __init__(
        self,
        attributes: Sequence[str] | None = None,
        n_images: int = 128,
        n_train_pairs: int = 64,
        n_test_pairs: int = 64,
        n_epochs: int = 1,
        batch_size: int = 8,
        learning_rate: float = 0.01,
        every_n_validations: int = 0,
    ) -> None:
        super().__init__(n_train_pairs, n_test_pairs, n_epochs, batch_size, learning_rate, every_n_validations)
        if n_images < 1:
            raise ValueError(f"n_images={n_images}: expected 1 or more")
        self.attributes, self.n_images = attributes, n_images

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Asks the model what it knows, before anything is trained."""
        super().setup(trainer, pl_module, stage)
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        check_image_tower("AttributeEditing", datamodule)
        self._pictures = LabelledPictures("AttributeEditing", datamodule, attributes=self.attributes)
        check_one_hook("AttributeEditing", datamodule, pl_module)
        with torch.inference_mode(False):
            train = find_known_pictures(self._pictures, "train", self.n_images, self.n_train_pairs, _SEED)
            test = find_known_pictures(self._pictures, "heldout", self.n_images, self.n_test_pairs, _SEED)
        self._train, self._test, self._numbers = train.swaps, test.swaps, (train.numbers, test.numbers)

    # Lightning validates in inference mode, whose tensors can take no part in a gradient.
    @torch.inference_mode(False)
    @torch.no_grad()
    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> dict[str, Scores]:
        """Trains and tests masks for every member and reference, a part of them on each rank."""
        asker = PictureAsker(self._pictures, torch.cat(self._numbers))
        x_train, x_test = (asker.activations(numbers).to(module.device) for numbers in self._numbers)

        def loss(swaps: Swaps, pairs: Tensor, edited: Tensor, part: str) -> Tensor:
            return asker.ask([swaps.questions[i] for i in pairs], edited, part)[0].mean()

        def are_right(swaps: Swaps, edited: Callable[[Tensor], Tensor], part: str) -> Tensor:
            return asker.are_right(swaps.questions, edited, part)

        right = self.right(trainer, module, x_train, x_test, loss, are_right)
        scores = self.editing_scores(right)
        for attribute, swaps in self._test.items():
            n = swaps.n_cause
            shares = {name: [of[attribute][:n], of[attribute][n:]] for name, of in right.items()}
            of_one = mean_of_shares(shares)
            name = re.sub(r"\W+", "_", attribute)
            scores[f"attribute_score_{name}"] = Scores(of_one.members, of_one.floor, items=of_one.items)
        return scores
