"""Activations of either tower of an open_clip model, at the input or output of any of its submodules."""

import math
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from sae_lightning.sources.hooked import HookedModel, hooks_by_name
from sae_lightning.sources.image_batch import ImageBatch
from sae_lightning.sources.open_clip_models import load_clip
from sae_lightning.sources.tokens import TokenBatch

_IMAGE_TOWER = "visual."


class ClipSource(HookedModel):
    """A CLIP model and a submodule of its image tower or of its text tower, or several of one tower.

    Its outputs are embeddings [batch, d_embed] of norm 1. The image tower reads an `ImageBatch`, whose positions are
    the class token, where there is one, and then the patches row by row; the text tower reads a `TokenBatch`.

    Args:
        model: name of an architecture of open_clip, such as ViT-B-32, folder with an open_clip_config.json and weights,
            or hf-hub:<name>.
        hook: dotted name of a submodule, as in `named_modules()`: visual.transformer.resblocks.3 of the image tower,
            transformer.resblocks.3 of the text tower; for several, a mapping from names of your choice to submodules.
        pretrained: tag of the weights of an architecture, such as openai, or their file.
        hook_input: read the input of the submodule instead of its output. Default: false.
        dtype: number format of the model.

    Attributes:
        reads_images: whether the hooks are in the image tower.
        preprocess: turns an image into pixels [3, height, width].
        tokenizer: makes the tokenizer.
    """

    model: Any  # a CLIP or CustomTextCLIP of open_clip, which has no types
    library = "open_clip_torch"
    embeds_images = True
    reads = "images or captions"

    def __init__(
        self,
        model: str,
        hook: str | dict[str, str],
        pretrained: str | None = None,
        hook_input: bool = False,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    ) -> None:
        paths = hooks_by_name(hook).values()  # a mistake in the names ends here, before the model is loaded
        towers = {f"{path}.".startswith(_IMAGE_TOWER) for path in paths}
        if len(towers) > 1:
            raise ValueError(f"hook={hook}: expected hooks of one tower; those of the image tower begin with visual.")
        (self.reads_images,) = towers
        loaded = load_clip(model, pretrained)
        self.list_hooks = "sae hooks {name} --clip" + (f" --pretrained {pretrained}" if pretrained else "")
        self.pretrained = pretrained
        self.preprocess, self.tokenizer, self._fresh = loaded.preprocess, loaded.tokenizer, loaded.fresh
        size = getattr(loaded.model.visual, "image_size", 224)
        self.image_size: tuple[int, int] = (size, size) if isinstance(size, int) else tuple(size)
        super().__init__(loaded.model.to(getattr(torch, dtype)), model, hook, hook_input)

    @property
    @override
    def no_next_token(self) -> str:
        return "a CLIP model embeds images and captions"

    @property
    def _model_dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    @property
    def scale(self) -> float:
        """Factor from cosines of embeddings to logits."""
        return float(self.model.logit_scale.exp())

    @property
    def grid(self) -> tuple[int, int]:
        """Number of rows and of columns of patches.

        Raises:
            ValueError: if the image tower has no patches.
        """
        visual: Any = self.model.visual
        timm_embedding = getattr(getattr(visual, "trunk", None), "patch_embed", None)
        grid = getattr(visual, "grid_size", None) or getattr(timm_embedding, "grid_size", None)
        if grid is None:
            raise ValueError(f"model={self.name}: its image tower has no patches; expected a vision transformer")
        return tuple(grid)

    def n_positions(self) -> tuple[int, int]:
        """Return the number of positions at the hooks that precede the patches, and the number of all positions.

        Raises:
            ValueError: if the hooks have no position for each patch.
        """
        if any(isinstance(module, nn.Conv2d) for module in self._hooked.values()):
            raise ValueError(f"hook={self.hook}: this is a convolution; choose a submodule with [batch, position, d]")
        (part, *_) = self._forward_to_hooks(self.example()).values()
        n, patches = part.shape[1], math.prod(self.grid)
        if n < patches:
            raise ValueError(
                f"hook={self.hook}: it has {n} positions, and the image {patches} patches; choose another submodule"
            )
        return n - patches, n

    def visible(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """Return what the model reads as an image to be shown: the normalisation undone, values from 0 to 1."""
        visual: Any = self.model.visual
        mean, std = (torch.tensor(visual.preprocess_cfg[name])[:, None, None] for name in ("mean", "std"))
        return (pixels.cpu() * std + mean).clamp(0, 1)

    @override
    def describe(self, part: str = "") -> dict[str, Any]:
        return super().describe(part) | {"pretrained": self.pretrained}

    @override
    def example(self) -> ImageBatch | TokenBatch:
        if self.reads_images:
            ones = torch.ones(2, 1, dtype=torch.bool)  # two, since one might hide an output that has no batch dimension
            return ImageBatch(torch.zeros(2, 3, *self.image_size), ones, torch.zeros(2, dtype=torch.int64))
        ids = self.tokenizer()(["a", "a"])
        return TokenBatch(ids, torch.ones_like(ids, dtype=torch.bool))

    @override
    def positions(self, inputs: ImageBatch | TokenBatch) -> tuple[int, ...]:
        # How many positions an image has is seen in the activations, and checked by `n_positions`.
        return (len(inputs.mask),) if isinstance(inputs, ImageBatch) else tuple(inputs.mask.shape)

    @override
    def forward(self, inputs: ImageBatch | TokenBatch) -> Tensor:
        """Return the embeddings of the tower, of norm 1."""
        if isinstance(inputs, ImageBatch):
            return self.embed_images(inputs.pixels)
        return self.embed_tokens(inputs.input_ids)

    def embed_images(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch d_embed"]:
        """Return embeddings of images, of norm 1, whichever tower has the hooks."""
        return self.model.encode_image(pixels.to(self.device, self._model_dtype), normalize=True)

    def embed_tokens(self, input_ids: Tensor) -> Float[Tensor, "batch d_embed"]:
        """Return embeddings of rows of tokens, of norm 1, whichever tower has the hooks."""
        return self.model.encode_text(input_ids.to(self.device), normalize=True)

    @override
    def outputs(self, outputs: Tensor) -> Float[Tensor, "batch d_embed"]:
        return outputs

    @override
    def redrawn(self, seed: int, embeddings: bool) -> "ClipSource":
        with torch.random.fork_rng(devices=[]):  # open_clip draws from the global random state
            torch.manual_seed(seed)
            new = self._fresh()
        if not embeddings:
            trained = dict(self.model.named_modules())
            for name, module in new.named_modules():
                if isinstance(module, nn.Embedding | nn.Conv2d):
                    module.load_state_dict(trained[name].state_dict())
        return self.on(new.to(self.device, self._model_dtype).requires_grad_(False))
