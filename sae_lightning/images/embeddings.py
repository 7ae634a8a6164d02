"""`Embedding`: which images look alike to something other than the model whose latents are judged."""

from abc import ABC, abstractmethod
from inspect import signature
from itertools import starmap
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from sae_lightning.checks import check_whole

if TYPE_CHECKING:
    from PIL.Image import Image


class Embedding(ABC):
    """A map from images to vectors. A subclass keeps each argument under the argument's name."""

    def check(self, source: Any) -> None:  # noqa: B027
        """Load the model of the embedding, if it has one.

        Args:
            source: the ClipSource whose activations an SAE reads.

        Raises:
            ValueError: if the model cannot be loaded, or is that of the source.
        """

    @abstractmethod
    def preprocess(self, image: "Image") -> Float[Tensor, "3 height width"]:
        """Turn an image in RGB into pixels."""

    @abstractmethod
    def embed(
        self, pixels: Float[Tensor, "batch 3 height width"], device: torch.device
    ) -> Float[Tensor, "batch d_embed"]:
        """Return vectors, on the CPU, of preprocessed images."""

    def __repr__(self) -> str:  # part of the evaluator's key in checkpoints
        arguments = (f"{name}={getattr(self, name)!r}" for name in signature(type(self)).parameters)
        return f"{type(self).__name__}({', '.join(arguments)})"


class PixelEmbedding(Embedding):
    """The image itself, shrunk: images of like colour and coarse form are close. Nothing in it was learned.

    Args:
        size: width and height in pixels.
    """

    def __init__(self, size: int = 8) -> None:
        check_whole(1, size=size, hint="in pixels")
        self.size = size

    @override
    def preprocess(self, image: "Image") -> Float[Tensor, "3 height width"]:
        import numpy as np
        from PIL.Image import Resampling

        small = np.array(image.resize((self.size, self.size), Resampling.BOX))
        return torch.from_numpy(small).permute(2, 0, 1).float() / 255

    @override
    def embed(
        self, pixels: Float[Tensor, "batch 3 height width"], device: torch.device
    ) -> Float[Tensor, "batch d_embed"]:
        return pixels.flatten(1)


class ClipEmbedding(Embedding):
    """The image tower of a CLIP model that is not the one whose activations are read.

    Args:
        model: name of an architecture of open_clip, such as ViT-B-16, folder with an open_clip_config.json and weights,
            or hf-hub:<name>.
        pretrained: tag of the weights of an architecture, such as laion2b_s34b_b88k, or their file.
    """

    def __init__(self, model: str, pretrained: str | None = None) -> None:
        self.model, self.pretrained = model, pretrained
        self._loaded: Any = None

    @override
    def check(self, source: Any) -> None:
        from sae_lightning.sources.open_clip_models import load_clip

        self._loaded = self._loaded or load_clip(self.model, self.pretrained)
        own, judged = (dict(model.visual.named_parameters()) for model in (self._loaded.model, source.model))
        if own.keys() == judged.keys() and all(starmap(_equal, ((own[name], judged[name]) for name in own))):
            raise ValueError(
                f"embedding: model={self.model} has the weights of the model whose activations the SAE reads "
                f"({source.name}): that its latents group images as it does itself says nothing; take another model, "
                "or PixelEmbedding"
            )

    @override
    def preprocess(self, image: "Image") -> Float[Tensor, "3 height width"]:
        return self._loaded.preprocess(image)

    @override
    def embed(
        self, pixels: Float[Tensor, "batch 3 height width"], device: torch.device
    ) -> Float[Tensor, "batch d_embed"]:
        return self._loaded.model.to(device).encode_image(pixels.to(device)).float().cpu()


def _equal(own: Tensor, judged: Tensor) -> bool:
    return own.shape == judged.shape and torch.equal(own.to("cpu", judged.dtype), judged.cpu())
