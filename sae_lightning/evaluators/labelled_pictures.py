"""`LabelledPictures`: pictures of known attributes, and what a CLIP model answers about them.

Zero-shot (Radford et al. 2021, arXiv 2103.00020): a value of an attribute is the mean embedding of the captions that
name it, of length 1, and the answer for a picture is the value with the largest cosine.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_lightning.evaluators.edits import edited_outputs
from sae_lightning.images import ImageReader, Images
from sae_lightning.sources import ImageBatch, TokenBatch
from sae_lightning.sources.replacing import Edit

_N_WORKERS = 4
_SEED = 0


def check_image_tower(evaluator: str, datamodule: Any) -> None:  # noqa: ANN401
    """Refuses data that are no activations of an image tower."""
    if not getattr(getattr(datamodule, "source", None), "reads_images", False):
        raise ValueError(
            f"{evaluator} needs the image tower of a CLIP model, and data={type(datamodule).__name__} has none: "
            f"take ClipImages, or leave out {evaluator}"
        )


class LabelledPictures:
    """Pictures of known attributes, read by the model of a datamodule.

    Args:
        evaluator: name of who asks, for messages.
        datamodule: ClipImages or ClipText.
        images: which pictures; by default those of the datamodule.
        attributes: which attributes; by default all that have two values or more.

    Attributes:
        attributes: names of the attributes.
        labels: [n_images, n_attributes] int64, index of the value, -1 where the attribute does not apply.

    Raises:
        ValueError: if there is no CLIP model, or nothing to ask.
    """

    def __init__(
        self, evaluator: str, datamodule: Any, images: Images | None = None, attributes: Sequence[str] | None = None
    ) -> None:
        if not hasattr(getattr(datamodule, "source", None), "embed_images"):
            raise ValueError(
                f"{evaluator} needs a CLIP model, and data={type(datamodule).__name__} has none: "
                f"take ClipImages, or leave out {evaluator}"
            )
        found = getattr(datamodule, "images", None) if images is None else images
        if found is None:
            raise ValueError(
                f"{evaluator}: data={type(datamodule).__name__} has captions and no pictures; give {evaluator} its "
                "images, such as PocketImages"
            )
        self.source: Any = datamodule.source
        self.images: Images = found
        several = [name for name, values in found.values.items() if len(values) > 1]
        self.attributes = several if attributes is None else list(attributes)
        if not several:
            raise ValueError(
                f"{evaluator}: images={type(found).__name__} has no attribute with two values or more; expected "
                "pictures in a folder for each class, ImageFolder with a table, or HubImages with attributes"
            )
        if unknown := [name for name in self.attributes if name not in several]:
            raise ValueError(f"attributes: {unknown[0]} is none of these pictures; expected some of {several}")
        self.labels = torch.stack([found.labels(name) for name in self.attributes], 1)
        self.mask: Tensor = getattr(datamodule, "mask", torch.ones(1, dtype=torch.bool))
        self.packing: Any = getattr(datamodule, "packing", None)
        self.batch_size: int = datamodule.rows_at_once
        self._reader = ImageReader(found, self.source.preprocess, _N_WORKERS)

    def numbers(self, split: str, n: int) -> Int64[Tensor, " n_pictures"]:
        """The first n pictures that each attribute applies to, in a random order that is the same each time.

        Args:
            split: `train` or `heldout`.
            n: of each attribute; a picture may be among those of several.

        Raises:
            ValueError: if there are none.
        """
        numbers = self.images.numbers(split)
        numbers = numbers[torch.randperm(len(numbers), generator=torch.Generator().manual_seed(_SEED))]
        applies = self.labels[numbers] >= 0
        chosen = numbers[(applies & (applies.cumsum(0) <= n)).any(1)]
        if not len(chosen):
            raise ValueError(
                f"images={type(self.images).__name__}: nothing is known of the {len(numbers)} {split} pictures; "
                f"expected some with {' or '.join(self.attributes)}"
            )
        return chosen

    def batches(self, numbers: Int64[Tensor, " n_pictures"]) -> Iterator[ImageBatch]:
        """Those pictures that can be decoded, on the model's device."""
        for some in numbers.split(self.batch_size):
            pixels, kept = self._reader.read(some)
            if len(kept):
                yield ImageBatch(pixels, self.mask.expand(len(kept), -1), kept).to(self.source.device)

    def zero_shot(self, edit: Edit | None = None, part: str = "") -> "ZeroShot":
        """The embeddings of all values, by the untouched text tower or by one that reads edited activations."""
        tokenizer, embeddings = self.source.tokenizer(), dict[str, Tensor]()
        for name in self.attributes:
            values, prompts = self.images.values[name], self.images.prompts[name]
            ids = tokenizer([prompt.replace("{}", value) for value in values for prompt in prompts])
            of_captions = torch.cat([self._embed(some, edit, part) for some in ids.split(self.batch_size)])
            means = of_captions.float().unflatten(0, (len(values), len(prompts))).mean(1)
            embeddings[name] = F.normalize(means, dim=1)
        return ZeroShot(embeddings, self.source.scale)

    def _embed(self, ids: Tensor, edit: Edit | None, part: str) -> Tensor:
        if edit is None:
            return self.source.embed_tokens(ids)
        batch = TokenBatch(ids, self.packing.mask(ids)).to(self.source.device)
        return edited_outputs(self.source, batch, edit, part)

    def answers(
        self, zero_shot: "ZeroShot", embeddings: Float[Tensor, "n d_embed"], numbers: Int64[Tensor, " n"]
    ) -> Float[Tensor, "n n_attributes 2"]:
        """Whether the answer is wrong (0 or 1) and its cross-entropy in nats; nan where an attribute does not apply.

        Args:
            zero_shot: what the embeddings are compared with.
            embeddings: of pictures.
            numbers: which pictures they are.
        """
        labels = self.labels[numbers]
        picture, attribute = (labels >= 0).nonzero().unbind(1)
        loss, right = zero_shot.ask(embeddings[picture], attribute, labels[picture, attribute])
        table = torch.full((*labels.shape, 2), torch.nan, dtype=torch.float64)
        table[picture, attribute] = torch.stack([(~right).double(), loss.double()], 1).cpu()
        return table


class ZeroShot:
    """Which value of an attribute does an embedding show?

    Args:
        embeddings: by attribute [n_values, d_embed], of length 1.
        scale: what cosines are multiplied by before they are logits.
    """

    def __init__(self, embeddings: Mapping[str, Tensor], scale: float) -> None:
        self.embeddings, self.scale = torch.cat(list(embeddings.values())), scale
        sizes = torch.tensor([len(of) for of in embeddings.values()], device=self.embeddings.device)
        self._first = sizes.cumsum(0) - sizes
        of_attribute = torch.arange(len(sizes), device=sizes.device)
        self._others = torch.repeat_interleave(of_attribute, sizes) != of_attribute[:, None]

    def ask(
        self, embeddings: Float[Tensor, "n d_embed"], attribute: Int64[Tensor, " n"], label: Int64[Tensor, " n"]
    ) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
        """Cross-entropy among the values of the attribute in nats, and whether the answer is this value.

        Differentiable in the embeddings.
        """
        attribute, label = attribute.to(self.embeddings.device), label.to(self.embeddings.device)
        logits = self.scale * embeddings.float() @ self.embeddings.T
        logits = logits.masked_fill(self._others[attribute], -torch.inf)
        target = self._first[attribute] + label
        return F.cross_entropy(logits, target, reduction="none"), logits.argmax(1) == target
