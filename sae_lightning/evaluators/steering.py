"""What a direction does to the answers of a CLIP model when it is added to the activations of images.

    x <- x + strength * scale * direction, at every valid position

with the scale of the activations, the root mean square of ||x - mean||. The strength is searched for each direction so
that as many answers are lost with each. With one strength for all, a weak direction would change a few answers, which
are of one attribute by chance, and a strong one all answers about everything: how selective a direction looks would
tell how strong it is.
"""

from functools import partial

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_lightning.causal.image_pairs import more_images
from sae_lightning.datamodules.labelled_images import LabelledImages
from sae_lightning.sources.replacing import Edit, edited_outputs

# Exponents of 2: strengths from 1/64 to 8, searched to 3 percent, or until the change is met well enough.
_WEAKEST, _STRONGEST, _N_STEPS = -6.0, 3.0, 8
_TOLERANCE = 0.1
_MIN_KNOWN = 16
_EPSILON = 1e-9


class Steering:
    """Held-out images about which the model is asked while something is added to their activations.

    Only answers count that are correct when nothing is added: one about something that the model does not know is a
    guess, which anything changes.

    Args:
        images: which images, and which of their attributes; each applies to some of them.
        numbers: which of the images.
        part: name of the hook, where there are several.
        n_images: images that were asked for, for each attribute.

    Raises:
        ValueError: if the model knows too little of an attribute.
    """

    def __init__(self, images: LabelledImages, numbers: Int64[Tensor, " n_images"], part: str, n_images: int) -> None:
        self._images, self._part = images, part
        self._captions = images.zero_shot()
        self._batches = list(images.batches(numbers))
        activations: list[Tensor] = []

        def keep(x: Tensor) -> Tensor:
            activations.append(x.double())
            return x

        self._known = ~self._wrong(keep)
        x = torch.cat(activations)
        self._scale = float((x - x.mean(0)).square().sum(1).mean().sqrt())
        for name, n in zip(images.attributes, self._known.sum(0).tolist(), strict=True):
            if n < _MIN_KNOWN:
                raise ValueError(
                    f"the model answers {n} of {len(self._known)} images correctly about {name}, and {_MIN_KNOWN} "
                    f"are needed: {more_images(len(self._known), n_images)}, or name others (attributes)"
                )

    @property
    def n_known(self) -> Int64[Tensor, " n_attributes"]:
        """Answers of each attribute that can be lost."""
        return self._known.sum(0)

    def lost(
        self, directions: Float[Tensor, "n d_in"], change: float
    ) -> tuple[Float[Tensor, "n n_attributes"], Float[Tensor, " n"]]:
        """Return which share of the answers about each attribute is lost, and with which strength.

        On the CPU in float64.

        Args:
            directions: of length 1.
            change: the sum over attributes of the shares that shall be lost. As a rule it is exceeded by less than a
                tenth; directions that lose less at the largest strength miss it.
        """
        searches = [self._search(direction, change) for direction in directions]
        # Of no direction there is nothing to stack.
        shares_lost = torch.zeros(0, len(self.n_known), dtype=torch.float64, device=self.n_known.device)
        if searches:
            shares_lost = torch.stack([lost for lost, _ in searches])
        return shares_lost, torch.tensor([strength for _, strength in searches], dtype=torch.float64)

    def _search(self, direction: Tensor, change: float) -> tuple[Tensor, float]:
        """Bisect the exponent of the strength; the last that lost enough is taken, and its shares."""
        low, high, enough = _WEAKEST, _STRONGEST, None
        for _ in range(_N_STEPS):
            middle = (low + high) / 2
            lost = self._lost(direction, 2**middle)
            if lost.sum() < change:
                low = middle
            else:
                high, enough = middle, lost
                if lost.sum() <= (1 + _TOLERANCE) * change:
                    break
        return (lost, 2**middle) if enough is None else (enough, 2**high)

    def _lost(self, direction: Tensor, strength: float) -> Float[Tensor, " n_attributes"]:
        wrong = self._wrong(partial(_add, step=strength * self._scale * direction))
        return (wrong & self._known).sum(0) / self.n_known.double()

    def _wrong(self, edit: Edit) -> Bool[Tensor, "n_images n_attributes"]:
        """Return which answers are wrong; those about an attribute that does not apply are."""
        answers = []
        for batch in self._batches:
            embeddings = edited_outputs(self._images.source, batch, edit, self._part)
            answers.append(self._images.answers(self._captions, embeddings, batch.numbers)[..., 0])
        return torch.cat(answers) != 0  # nan is not 0


def _add(x: Tensor, step: Tensor) -> Tensor:
    return x + step.to(x)


def selectivity(lost: Float[Tensor, "n n_attributes"], usual: Float[Tensor, " n_attributes"]) -> Float[Tensor, " n"]:
    """Return how much of what a direction does is done to one attribute, beyond what is usual.

        max_a (p_a - usual_a) / (1 - usual_a),    p_a = lost_a / sum_b lost_b

    From 0, the shares are the usual ones, to 1, one attribute alone changes; higher is more selective. A direction that
    changes nothing has 0. It is a difference and no ratio, as one lost answer about an attribute that hardly ever
    changes would be a large one.

    Args:
        lost: share of the answers about each attribute that each direction loses.
        usual: `shares` of directions of no meaning, mean over these: some attributes change more easily than others.
    """
    return ((shares(lost) - usual) / (1 - usual).clamp(min=_EPSILON)).amax(1).clamp(min=0) * (lost.sum(1) > 0)


def shares(lost: Float[Tensor, "n n_attributes"]) -> Float[Tensor, "n n_attributes"]:
    """Return of what each direction does, which share is done to each attribute; zeros for one that does nothing."""
    return lost / lost.sum(1, keepdim=True).clamp(min=_EPSILON)
