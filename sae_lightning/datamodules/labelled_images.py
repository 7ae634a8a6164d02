"""`LabelledImages`: images of known attributes, and what a CLIP model answers about them.

Zero-shot (Radford et al. 2021, arXiv 2103.00020): a value of an attribute is the mean embedding of the captions that
name it, of length 1, and the answer for an image is the value with the largest cosine.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_lightning.datamodules.base import ActivationDataModule
from sae_lightning.images.base import Images
from sae_lightning.images.reader import ImageReader
from sae_lightning.sources import ClipSource, ImageBatch, TokenBatch
from sae_lightning.sources.replacing import Edit, edited_outputs

_N_WORKERS = 4
_SEED = 0


class LabelledImages:
    """Images of known attributes, read by the model of a datamodule.

    Args:
        evaluator: name of the evaluator, for messages.
        datamodule: whose source is a CLIP model.
        images: which images; by default those of the datamodule.
        attributes: which attributes; by default all that have two values or more.

    Attributes:
        attributes: names of the attributes.
        labels: [n_images, n_attributes] int64, index of the value, -1 where the attribute does not apply.

    Raises:
        ValueError: if there are no images, or there is no attribute to ask about.
    """

    def __init__(
        self,
        evaluator: str,
        datamodule: ActivationDataModule,
        images: Images | None = None,
        attributes: Sequence[str] | None = None,
    ) -> None:
        if images is None:
            images = datamodule.images
        if images is None:
            raise ValueError(
                f"{evaluator}: data={type(datamodule).__name__} has captions and no images; give {evaluator} its "
                "images, such as PocketImages"
            )
        several = [name for name, values in images.values.items() if len(values) > 1]
        if not several:
            raise ValueError(
                f"{evaluator}: images={type(images).__name__} has no attribute with two values or more; expected "
                "images in a folder for each class, ImageFolder with a table, or HubImages with attributes"
            )
        self.attributes = several if attributes is None else list(attributes)
        if unknown := [name for name in self.attributes if name not in several]:
            raise ValueError(f"attributes: {unknown[0]} is none of these images; expected some of {several}")
        self.images = images
        # A source around a ClipSource, as that of nulls or of a cache, is in everything else the source inside.
        self.source = cast("ClipSource", datamodule.source)
        self.labels = torch.stack([images.labels(name) for name in self.attributes], 1)
        # The image tower is edited at the positions that training reads; with the text tower an image has no positions.
        self.mask = torch.ones(1, dtype=torch.bool) if datamodule.mask is None else datamodule.mask
        self.packing = datamodule.packing
        self.batch_size = datamodule.rows_at_once
        self._reader = ImageReader(images, self.source.preprocess, _N_WORKERS)

    def numbers(self, split: str, n: int, draw: int = 0) -> Int64[Tensor, " n_images"]:
        """Return the first n images that each attribute applies to, in a random order that is the same each time.

        Args:
            split: `train` or `heldout`.
            n: images for each attribute; an image may be among those of several.
            draw: number of the random order.

        Raises:
            ValueError: if there are none.
        """
        numbers = self.images.numbers(split)
        numbers = numbers[torch.randperm(len(numbers), generator=torch.Generator().manual_seed(_SEED + draw))]
        applies = self.labels[numbers] >= 0
        chosen = numbers[(applies & (applies.cumsum(0) <= n)).any(1)]
        if not len(chosen):
            raise ValueError(
                f"images={type(self.images).__name__}: nothing is known of the {len(numbers)} {split} images; "
                f"expected some with {' or '.join(self.attributes)}"
            )
        return chosen

    def batches(self, numbers: Int64[Tensor, " n_images"]) -> Iterator[ImageBatch]:
        """Yield those images that can be decoded, on the model's device."""
        for numbers_of_batch in numbers.split(self.batch_size):
            pixels, decoded = self._reader.read(numbers_of_batch)
            if len(decoded):
                yield ImageBatch(pixels, self.mask.expand(len(decoded), -1), decoded).to(self.source.device)

    def zero_shot(self, edit: Edit | None = None, part: str = "") -> "ZeroShot":
        """Return the embeddings of all values, by the text tower as it is or by one that reads edited activations."""
        tokenizer, embeddings = self.source.tokenizer(), dict[str, Tensor]()
        for name in self.attributes:
            values, prompts = self.images.values[name], self.images.prompts[name]
            ids = tokenizer([prompt.replace("{}", value) for value in values for prompt in prompts])
            captions = torch.cat([self._embed(ids_of_batch, edit, part) for ids_of_batch in ids.split(self.batch_size)])
            means = captions.float().unflatten(0, (len(values), len(prompts))).mean(1)
            embeddings[name] = F.normalize(means, dim=1)
        return ZeroShot(embeddings, self.source.scale)

    def _embed(self, ids: Tensor, edit: Edit | None, part: str) -> Tensor:
        if edit is None:
            return self.source.embed_tokens(ids)
        assert self.packing is not None, "only the text tower reads captions through an edit"
        batch = TokenBatch(ids, self.packing.mask(ids)).to(self.source.device)
        return edited_outputs(self.source, batch, edit, part)

    def answers(
        self, zero_shot: "ZeroShot", embeddings: Float[Tensor, "n d_embed"], numbers: Int64[Tensor, " n"]
    ) -> Float[Tensor, "n n_attributes 2"]:
        """Return whether each answer is wrong (0 or 1), and its cross-entropy in nats.

        Both are nan where an attribute does not apply.

        Args:
            zero_shot: what the embeddings are compared with.
            embeddings: of images.
            numbers: which images they are.
        """
        labels = self.labels[numbers]
        image, attribute = (labels >= 0).nonzero().unbind(1)
        loss, is_correct = zero_shot.ask(embeddings[image], attribute, labels[image, attribute])
        table = torch.full((*labels.shape, 2), torch.nan, dtype=torch.float64)
        table[image, attribute] = torch.stack([(~is_correct).double(), loss.double()], 1).cpu()
        return table


class ZeroShot:
    """Which value of an attribute does an embedding show?

    Args:
        embeddings: by attribute [n_values, d_embed], of length 1.
        scale: what cosines are multiplied by before they are logits.
    """

    def __init__(self, embeddings: Mapping[str, Tensor], scale: float) -> None:
        self.embeddings, self.scale = torch.cat(list(embeddings.values())), scale
        sizes = torch.tensor([len(values) for values in embeddings.values()], device=self.embeddings.device)
        self._first = sizes.cumsum(0) - sizes
        attributes = torch.arange(len(sizes), device=sizes.device)
        # [n_attributes, all values]: which belong to another attribute, and are no answer.
        self._others = torch.repeat_interleave(attributes, sizes) != attributes[:, None]

    def ask(
        self, embeddings: Float[Tensor, "n d_embed"], attribute: Int64[Tensor, " n"], label: Int64[Tensor, " n"]
    ) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
        """Return the cross-entropy among the values of the attribute in nats, and whether the answer is this value.

        Differentiable in the embeddings.
        """
        attribute, label = attribute.to(self.embeddings.device), label.to(self.embeddings.device)
        logits = self.scale * embeddings.float() @ self.embeddings.T
        logits = logits.masked_fill(self._others[attribute], -torch.inf)
        target = self._first[attribute] + label
        loss = F.cross_entropy(logits, target, reduction="none")
        return loss, (logits.argmax(1) == target) & ~loss.isnan()  # of numbers that are none the first is the largest
