"""Activations of the text tower of a CLIP model on captions, made while training."""

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor
from typing_extensions import override

from sae_lightning.checks import check_whole
from sae_lightning.datamodules.base import check_batches
from sae_lightning.datamodules.model_activations import BufferDtype, check_sizes
from sae_lightning.datamodules.packing import RowMaker, check_skip_first
from sae_lightning.datamodules.text import Text
from sae_lightning.datamodules.text_activations import TextActivations
from sae_lightning.sources import ClipSource, Null, NullSource
from sae_lightning.sources.massive import check_max_norm_ratio

Positions = Literal["all", "end", "words"]


class ClipText(TextActivations):
    """Activations of the text tower of a CLIP model at a hook, made while training; a row is a caption.

    Args:
        model: name of an architecture of open_clip, such as ViT-B-32, folder with an open_clip_config.json and weights,
            or hf-hub:<name>.
        hook: dotted name of a submodule of the text tower, such as transformer.resblocks.3; for several, names of yours
            with one each.
        text: captions, one a document: PocketCaptions, FileText or HubText.
        pretrained: tag of the weights of an architecture, such as openai, or their file.
        positions: valid positions: all for words and the end token; end for that token, whose output alone becomes the
            embedding; words.
        hook_input: take what goes into the submodule and not what comes out. Default: false.
        dtype: number format of the model.
        batch_size: activations in a batch of one rank.
        train_samples: tokens in an epoch, all ranks together; where captions are too few they are read again.
        val_samples: held-out tokens in a validation, all ranks together, or as many as there are.
        loss_samples: held-out tokens for evaluators that run the whole model, all ranks together.
        buffer_samples: activations that are shuffled together, in a rank.
        buffer_dtype: number format in the buffer; bfloat16 halves its memory.
        captions_per_forward: captions in a forward of the model.
        nulls: null versions of the activations, by names of yours. Default: none.
        skip_first_positions: positions at the beginning of each row, its beginning token included, that are left out in
            the same way; 2 leaves out that token and the one after it.
        max_norm_ratio: leave activations with a norm above this many times the median norm at their hook out of
            training and metrics, and let edits of the model pass them by; null keeps them. The median is measured once,
            on the beginning of the training data, and kept in checkpoints.
        seed: decides the order of the activations.
    """

    source: ClipSource | NullSource

    def __init__(
        self,
        model: str,
        hook: str | dict[str, str],
        text: Text,
        pretrained: str | None = None,
        positions: Positions = "all",
        hook_input: bool = False,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        batch_size: int = 4096,
        train_samples: int = 10_000_000,
        val_samples: int = 65_536,
        loss_samples: int = 16_384,
        buffer_samples: int = 65_536,
        buffer_dtype: BufferDtype = "float32",
        captions_per_forward: int = 128,
        nulls: dict[str, Null] | None = None,
        skip_first_positions: int = 0,
        max_norm_ratio: float | None = 10.0,
        seed: int = 0,
    ) -> None:
        per_forward = ("captions_per_forward", captions_per_forward)
        check_batches(batch_size, train_samples, val_samples, seed)
        check_max_norm_ratio(max_norm_ratio)
        check_whole(0, skip_first_positions=skip_first_positions)
        check_sizes(loss_samples, per_forward, 1, batch_size, buffer_samples)
        source = ClipSource(model, hook, pretrained, hook_input, dtype)
        if source.reads_images:
            raise ValueError(
                f"hook={hook}: expected one of the text tower, and visual. is the other; or take ClipImages"
            )
        packing = CaptionRows(source.tokenizer(), positions, skip_first_positions)
        check_sizes(loss_samples, per_forward, packing.context_length, batch_size, buffer_samples)
        super().__init__(
            text,
            packing,
            source=source,
            batch_size=batch_size,
            train_samples=train_samples,
            val_samples=val_samples,
            loss_samples=loss_samples,
            buffer_samples=buffer_samples,
            buffer_dtype=buffer_dtype,
            rows_at_once=captions_per_forward,
            nulls=nulls,
            max_norm_ratio=max_norm_ratio,
            seed=seed,
        )


class CaptionRows(RowMaker):
    """Captions as an open_clip tokenizer makes them: a start token, words, an end token, padding.

    Args:
        tokenizer: of open_clip.
        positions: which are valid.
        skip_first: positions at the beginning of a row that are not.

    Raises:
        ValueError: if the tokenizer has no end token, or no position is left.
    """

    def __init__(self, tokenizer: Any, positions: Positions, skip_first: int = 0) -> None:
        self.tokenizer, self.positions, self.skip_first = tokenizer, positions, skip_first
        check_skip_first(skip_first, tokenizer.context_length)
        self.left_out = {"words": "start, end and padding", "end": "all but the end token"}.get(
            positions, "start token and padding"
        )
        self.context_length: int = tokenizer.context_length
        inner = getattr(tokenizer, "tokenizer", tokenizer)  # the tokenizer of transformers, where it wraps one
        ends = (getattr(inner, name, None) for name in ("eot_token_id", "eos_token_id", "sep_token_id"))
        end = next((token for token in ends if token is not None), None)
        if end is None:
            raise ValueError(
                "the tokenizer of this model has no end token; expected a model whose captions end with one"
            )
        self.end: int = end

    @override
    def mask(self, input_ids: Int64[Tensor, "*batch seq"]) -> Bool[Tensor, "*batch seq"]:
        """Return which positions are valid, never the start token and padding."""
        ended = (input_ids == self.end).long().cumsum(-1)  # padding may be made of end tokens
        is_end = (ended == 1) & (input_ids == self.end)
        is_word = ended == 0
        is_word[..., 0] = False
        valid = {"all": is_word | is_end, "end": is_end, "words": is_word}[self.positions]
        valid[..., : self.skip_first] = False
        return valid

    @override
    def tokenise(self, documents: list[str], continued: bool = False) -> np.ndarray:
        return self.tokenizer(documents).flatten().to(torch.int64).numpy()

    @override
    def cut(self, tokens: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        return list(tokens.reshape(-1, self.context_length)), tokens[:0]
