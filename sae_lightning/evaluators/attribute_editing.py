"""Does an SAE hold an attribute of an image, such as its colour, and nothing else, in latents of its own?

The counterpart of `CausalEditing` for the image tower of a CLIP model, with the score of RAVEL (Huang, Wu, Potts, Geva,
Geiger 2024, arXiv 2402.17700) and the masks of SAEBench (Karvonen et al. 2025, arXiv 2503.09532). Of one attribute at a
time, the latents that a trained mask names go from another image into the one that the model sees, at each position
from the same position.

    cause = share of pairs where the zero-shot answer about the attribute becomes that of the other image
    isolation = share of pairs where the answer about another attribute stays that of its own
    score = (cause + isolation) / 2
"""

import re
from collections.abc import Callable, Sequence

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from sae_lightning.causal.image_pairs import EditedImages, find_known_images
from sae_lightning.causal.swaps import Swaps
from sae_lightning.checks import check_whole
from sae_lightning.datamodules.labelled_images import LabelledImages
from sae_lightning.evaluators.editing import Editing, SwapsOfDraw
from sae_lightning.evaluators.edits import check_one_hook
from sae_lightning.evaluators.image_evaluator import image_tower_data
from sae_lightning.evaluators.repeats import seed_of
from sae_lightning.evaluators.scores import Scores
from sae_lightning.metric import Metric, Question
from sae_lightning.saes.module import SAEModule

_SEED = 0
_FLOOR = "an edit that changes nothing"

CHANGES_ONE_ATTRIBUTE = Question("editing", "Does an edit change one attribute and no other?", order=70)
CAUSE = Metric(
    "attribute_cause",
    "An edit changes the attribute it should",
    CHANGES_ONE_ATTRIBUTE,
    better="higher",
    floor=_FLOOR,
    computed="share of images whose zero-shot answer about the edited attribute becomes the value of the other image; "
    "mean over attributes",
)
ISOLATION = Metric(
    "attribute_isolation",
    "An edit leaves other attributes alone",
    CHANGES_ONE_ATTRIBUTE,
    better="higher",
    floor=_FLOOR,
    computed="share of images whose zero-shot answer about another attribute stays their own value; "
    "mean over edited attributes",
)
SCORE = Metric(
    "attribute_score",
    "Edits of attributes: mean of cause and isolation",
    CHANGES_ONE_ATTRIBUTE,
    better="higher",
    floor=_FLOOR,
    computed="(cause + isolation) / 2; mean over attributes",
    is_headline=True,
)


def score_of_attribute(attribute: str) -> Metric:
    """Describe the score of edits of one attribute."""
    name = re.sub(r"\W+", "_", attribute)
    return Metric(
        f"attribute_score_{name}",
        f"Edits of {name}: mean of cause and isolation",
        CHANGES_ONE_ATTRIBUTE,
        floor=_FLOOR,
        computed=f"(cause + isolation) / 2 of edits of {name}",
    )


class AttributeEditing(Editing):
    """Log attribute_cause, attribute_isolation and attribute_score, their mean: can attributes be edited by latents?

    The latents are chosen by a mask that is trained for each attribute and member, on training images; values are
    means over attributes, on held-out images. attribute_score_<attribute> is that of one attribute. The two images of
    an isolation pair differ in both attributes, and the model answers correctly about both. The reconstruction error
    is not added back. The floor leaves the model alone: cause 0, isolation 1, score 0.5.

    Positions are swapped one by one, each with the same position of the other image: a patch keeps its place. So what
    is somewhere else in the other image (where the object is, how many there are) can only be swapped with the patches
    that show it, those of the background included, and colour arrives where the other image has the object. What an
    attribute of the whole image costs is seen in the references, which swap in the same way.

    References: full_swap, all of the activations at valid positions, which has the largest cause that can be had and
    no isolation; neurons, pca and random_rotation, masks over the raw dimensions, over principal components of the
    training activations, and over a random orthonormal basis.

    Args:
        attributes: which, two or more; by default all that have two values or more.
        n_images: images that the model is asked about, for each attribute, in training and in test. Their activations
            at all positions are held in memory.
        n_train_pairs: pairs of each kind, cause and isolation, that a mask is trained on, for each attribute.
        n_test_pairs: pairs of each kind that it is tested on.
        n_epochs: how often training goes through its pairs.
        batch_size: pairs in a step of training, of both kinds together, 2 or more.
        learning_rate: of the mask, by Adam.
        n_repeats: draws of images, of pairs, and of their order in training; values are means over them.
        every_n_validations: 0 for the last validation alone, and `sae validate` and `sae test`.
    """

    declares = (CAUSE, ISOLATION, SCORE, score_of_attribute("ATTRIBUTE"))

    metrics = (CAUSE, ISOLATION, SCORE)

    def __init__(
        self,
        attributes: Sequence[str] | None = None,
        n_images: int = 128,
        n_train_pairs: int = 64,
        n_test_pairs: int = 64,
        n_epochs: int = 1,
        batch_size: int = 8,
        learning_rate: float = 0.01,
        n_repeats: int = 1,
        every_n_validations: int = 0,
    ) -> None:
        super().__init__(
            n_train_pairs, n_test_pairs, n_epochs, batch_size, learning_rate, n_repeats, every_n_validations
        )
        check_whole(1, n_images=n_images)
        self.attributes, self.n_images = attributes, n_images

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Ask the model what it knows, before anything is trained."""
        super().setup(trainer, pl_module, stage)
        datamodule = image_tower_data(self, trainer)
        self._images = LabelledImages("AttributeEditing", datamodule, attributes=self.attributes)
        check_one_hook("AttributeEditing", datamodule, pl_module)
        with torch.inference_mode(False):
            self._known = [
                tuple(
                    find_known_images(self._images, split, self.n_images, n_pairs, seed_of(_SEED, repeat), repeat)
                    for split, n_pairs in (("train", self.n_train_pairs), ("heldout", self.n_test_pairs))
                )
                for repeat in range(self.n_repeats)
            ]
        self._swaps = [SwapsOfDraw(train.swaps, test.swaps) for train, test in self._known]

    # Lightning validates in inference mode, whose tensors can take no part in a gradient.
    @torch.inference_mode(False)
    @torch.no_grad()
    def scores_by_repeat(self, trainer: Trainer, module: SAEModule, stage: str) -> list[list[Scores]]:
        """Train and test masks for every member and reference, a part of them on each rank."""
        images = EditedImages(
            self._images, *(torch.cat([known.numbers for known in of_draw]) for of_draw in self._known)
        )

        def loss(swaps: Swaps, pairs: Tensor, edited: Tensor, hook: str) -> Tensor:
            return images.ask([swaps.questions[i] for i in pairs], edited, hook)[0].mean()

        def is_pair_correct(swaps: Swaps, edited: Callable[[Tensor], Tensor], hook: str) -> Tensor:
            return images.is_correct(swaps.questions, edited, hook)

        scores = []
        for repeat, known in enumerate(self._known):
            x_train, x_test = (images.activations(part.numbers).to(module.device) for part in known)
            accuracy = self.edit_accuracy(repeat, trainer, module, x_train, x_test, loss, is_pair_correct)
            scores.append(list(self.editing_scores(repeat, accuracy)))
            for attribute in self._swaps[repeat].test:
                kinds = [(attribute, True), (attribute, False)]
                scores[-1].append(self.mean_of_shares(score_of_attribute(attribute), repeat, kinds, accuracy))
        return scores
