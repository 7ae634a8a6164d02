"""Activations of a language model on text: packed, masked, shuffled, made while training."""

from typing import Literal

from sae_lightning.checks import check_whole
from sae_lightning.datamodules.base import check_batches
from sae_lightning.datamodules.model_activations import check_sizes
from sae_lightning.datamodules.packing import Packing, check_skip_first
from sae_lightning.datamodules.text import Text
from sae_lightning.datamodules.text_activations import TextActivations
from sae_lightning.sources import LanguageModelSource, Null, NullSource
from sae_lightning.sources.massive import check_max_norm_ratio


class LanguageModelDataModule(TextActivations):
    """Activations of a language model at a hook, made while training, on all tokens but the special ones.

    Args:
        model: folder of a transformers checkpoint, its name on the hub, or a GGUF file (or the folder of one), with its
            tokenizer in it; the extra `gguf` reads these.
        hook: dotted name of a submodule, one that `sae hooks MODEL` lists, for example model.layers.2; for several,
            names of yours with one each, for example {early: model.layers.1, late: model.layers.3}.
        text: what the model reads: FileText, HubText or PocketText.
        hook_input: take what goes into the submodule and not what comes out. Default: false.
        revision: branch, tag or commit of the model on the hub. Default: its main branch.
        dtype: number format of the model; auto is the one it is stored in, and float32 for a GGUF file. A run on a CPU
            that is slow in it says so.
        tokenizer: folder or name of the tokenizer. Default: the model's own.
        context_length: tokens in a row of text, the first token included, at most what the model can read.
        bos_in_every_row: put the beginning token in front of rows that do not begin with a document, if there is one.
        batch_size: activations in a batch of one rank.
        train_samples: tokens in an epoch, all ranks together; a shorter text is read again.
        val_samples: held-out tokens in a validation, all ranks together, or as many as there are.
        loss_samples: held-out tokens for evaluators that run the whole model, all ranks together.
        buffer_samples: activations that are shuffled together, in a rank.
        buffer_dtype: number format in the buffer; bfloat16 halves its memory.
        llm_batch_size: rows of text in a forward of the model.
        nulls: null versions of the activations, by names of yours, on which a SanityPanel trains the same SAEs again:
            GaussianMatched, ShuffledDimensions, RandomRotation, Reinitialised. Each takes as much of the buffer as the
            activations. Default: none.
        skip_first_positions: positions at the beginning of each row, its beginning token included, that are left out in
            the same way; 2 leaves out that token and the one after it.
        max_norm_ratio: leave activations with a norm above this many times the median norm at their hook out of
            training and metrics, and let edits of the model pass them by; null keeps them. The median is measured once,
            on the beginning of the training data, and kept in checkpoints.
        seed: decides the order of the activations.
    """

    source: LanguageModelSource | NullSource
    packing: Packing

    def __init__(
        self,
        model: str,
        hook: str | dict[str, str],
        text: Text,
        hook_input: bool = False,
        revision: str | None = None,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        tokenizer: str | None = None,
        context_length: int = 128,
        bos_in_every_row: bool = True,
        batch_size: int = 4096,
        train_samples: int = 10_000_000,
        val_samples: int = 65_536,
        loss_samples: int = 16_384,
        buffer_samples: int = 65_536,
        buffer_dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        llm_batch_size: int = 32,
        nulls: dict[str, Null] | None = None,
        skip_first_positions: int = 0,
        max_norm_ratio: float | None = 10.0,
        seed: int = 0,
    ) -> None:
        from sae_lightning.sources.checkpoint import load_tokenizer

        check_batches(batch_size, train_samples, val_samples, seed)
        check_max_norm_ratio(max_norm_ratio)
        check_whole(2, context_length=context_length)
        check_sizes(loss_samples, ("llm_batch_size", llm_batch_size), context_length, batch_size, buffer_samples)
        check_skip_first(skip_first_positions, context_length)
        source = LanguageModelSource(model, hook, hook_input, revision, dtype)
        _check_context_length(source, context_length)
        super().__init__(
            text,
            Packing(
                load_tokenizer(tokenizer or model, revision), context_length, bos_in_every_row, skip_first_positions
            ),
            source=source,
            batch_size=batch_size,
            train_samples=train_samples,
            val_samples=val_samples,
            loss_samples=loss_samples,
            buffer_samples=buffer_samples,
            buffer_dtype=buffer_dtype,
            rows_at_once=llm_batch_size,
            nulls=nulls,
            max_norm_ratio=max_norm_ratio,
            seed=seed,
        )

    @property
    def llm_batch_size(self) -> int:
        """Rows of text in a forward of the model."""
        return self.rows_at_once


def _check_context_length(source: LanguageModelSource, context_length: int) -> None:
    """Raise a `ValueError` if the model cannot read rows of this length."""
    limit = source.max_length
    if limit is not None and context_length > limit:
        raise ValueError(f"context_length={context_length}: {source.name} reads at most {limit} tokens")
