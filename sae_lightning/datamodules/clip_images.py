"""Activations of the image tower of a CLIP model, made while training."""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from jaxtyping import Int64
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from typing_extensions import override

from sae_lightning.checks import check_whole
from sae_lightning.datamodules.base import check_batches
from sae_lightning.datamodules.image_stream import ImageOrder, ImageStream
from sae_lightning.datamodules.model_activations import BufferDtype, ModelActivations, check_sizes
from sae_lightning.images import ImageReader, Images
from sae_lightning.sources import ClipSource, ImageBatch, Null, NullSource
from sae_lightning.sources.massive import check_max_norm_ratio

_HELDOUT_SEED = 0


class ClipImages(ModelActivations):
    """Activations of the image tower of a CLIP model at a hook, made while training.

    Args:
        model: name of an architecture of open_clip, such as ViT-B-32, folder with an open_clip_config.json and weights,
            or hf-hub:<name>.
        hook: dotted name of a submodule of the image tower, such as visual.transformer.resblocks.3; for several, names
            of yours with one each.
        images: what the model sees: PocketImages, ImageFolder or HubImages.
        pretrained: tag of the weights of an architecture, such as openai, or their file.
        positions: valid positions: all, cls for the class token alone, patch for the patches alone.
        hook_input: take what goes into the submodule and not what comes out. Default: false.
        dtype: number format of the model.
        batch_size: activations in a batch of one rank.
        train_samples: activations in an epoch, all ranks together; where images are too few they are seen again.
        val_samples: held-out activations in a validation, all ranks together, or as many as there are.
        loss_samples: held-out activations for evaluators that run the whole model, all ranks together.
        buffer_samples: activations that are shuffled together, in a rank.
        buffer_dtype: number format in the buffer; bfloat16 halves its memory.
        images_per_forward: images in a forward of the model.
        n_workers: threads that decode images, ahead of their use.
        nulls: null versions of the activations, by names of yours, on which a SanityPanel trains the same SAEs again:
            GaussianMatched, ShuffledDimensions, RandomRotation, Reinitialised. Each takes as much of the buffer as the
            activations. Default: none.
        max_norm_ratio: leave activations with a norm above this many times the median norm at their hook out of
            training and metrics, and let edits of the model pass them by; null keeps them. The median is measured once,
            on the beginning of the training data, and kept in checkpoints.
        seed: decides the order of images and activations.
    """

    source: ClipSource | NullSource
    images: Images
    mask: Tensor
    unit = "positions"
    data_name = "images"
    no_effect_on_rows = ("batch_size", "buffer_dtype", "n_workers")

    def __init__(
        self,
        model: str,
        hook: str | dict[str, str],
        images: Images,
        pretrained: str | None = None,
        positions: Literal["all", "cls", "patch"] = "all",
        hook_input: bool = False,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        batch_size: int = 4096,
        train_samples: int = 10_000_000,
        val_samples: int = 65_536,
        loss_samples: int = 16_384,
        buffer_samples: int = 65_536,
        buffer_dtype: BufferDtype = "float32",
        images_per_forward: int = 64,
        n_workers: int = 4,
        nulls: dict[str, Null] | None = None,
        max_norm_ratio: float | None = 10.0,
        seed: int = 0,
    ) -> None:
        check_batches(batch_size, train_samples, val_samples, seed)
        check_max_norm_ratio(max_norm_ratio)
        check_sizes(loss_samples, ("images_per_forward", images_per_forward), 1, batch_size, buffer_samples)
        check_whole(1, n_workers=n_workers)
        source = ClipSource(model, hook, pretrained, hook_input, dtype)
        if not source.reads_images:
            raise ValueError(
                f"hook={hook}: expected one of the image tower, which begins with visual.; or take ClipText"
            )
        n_first, n_positions = source.n_positions()
        self.mask = torch.ones(n_positions, dtype=torch.bool)
        if positions != "all":
            self.mask[:n_first] = positions == "cls"
            self.mask[n_first:] = positions == "patch"
        if not self.mask.any():
            raise ValueError(f"positions={positions}: {hook} has no position but the patches; expected patch or all")
        n = int(self.mask.sum())
        check_sizes(loss_samples, ("images_per_forward", images_per_forward), n, batch_size, buffer_samples)
        self.images, self.valid_positions = images, positions
        self.reader = ImageReader(images, source.preprocess, n_workers)
        super().__init__(
            source=source,
            batch_size=batch_size,
            train_samples=train_samples,
            val_samples=val_samples,
            loss_samples=loss_samples,
            buffer_samples=buffer_samples,
            buffer_dtype=buffer_dtype,
            rows_at_once=images_per_forward,
            positions=n,
            nulls=nulls,
            max_norm_ratio=max_norm_ratio,
            seed=seed,
        )

    @override
    def describe(self) -> dict[str, Any]:
        return super().describe() | {"positions": self.valid_positions, "images_per_forward": self.rows_at_once}

    @override
    def train_stream(self) -> ImageStream:
        """Return this rank's training stream, from the first image."""
        return ImageStream(
            self.source,
            self._order(),
            self.inputs,
            self.images.name,
            self._buffer(),
            self.batch_size,
            self.rows_at_once,
            self.positions,
            *self.share,
        )

    @override
    def inputs(self, rows: Int64[Tensor, "n 1"]) -> ImageBatch:
        """Read those of the images with these numbers that can be decoded."""
        pixels, numbers = self.reader.read(rows[:, 0])
        return ImageBatch(pixels, self.mask.expand(len(numbers), -1), numbers)

    @override
    def n_valid(self, rows: Int64[Tensor, "n 1"]) -> Int64[Tensor, " n"]:
        return torch.full((len(rows),), self.positions)

    @override
    def train_blocks(self) -> Iterator[Int64[Tensor, "n 1"]]:
        order, begin = self._order(), 0
        while True:
            yield order.slice(begin, begin + self.rows_at_once)[:, None]
            begin += self.rows_at_once

    @override
    def one_pass(self, split: str) -> Iterator[Int64[Tensor, "n 1"]]:
        return iter(self._shuffled(split)[:, None].split(self.rows_at_once))

    @override
    def first_rows(self, split: str, n_samples: int) -> Int64[Tensor, "n 1"]:
        """Return images in a random order, the same each time, without those that cannot be decoded."""
        numbers = self._shuffled(split)
        wanted, decoded = -(-n_samples // self.positions), list[Tensor]()
        for part in numbers.split(self.rows_at_once):
            decoded.append(self.reader.read(part)[1])
            if sum(map(len, decoded)) >= wanted:
                break
        return torch.cat(decoded)[:wanted, None] if decoded else numbers[:, None]

    def teardown(self, stage: str) -> None:
        """Report how many images were skipped, and how many activations."""
        super().teardown(stage)
        if skipped := self.reader.skipped:
            rank_zero_info(f"{len(skipped)} of {len(self.images)} images cannot be decoded and were skipped.")

    def _shuffled(self, split: str) -> Int64[Tensor, " n"]:
        numbers = self.images.numbers(split)
        return ImageOrder(numbers, self.seed if split == "train" else _HELDOUT_SEED).slice(0, len(numbers))

    def _order(self) -> ImageOrder:
        return ImageOrder(self.images.numbers("train"), self.seed)
