"""Activations of a language model on text: packed, masked, shuffled, made while training."""

from collections.abc import Iterator
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from typing_extensions import override

from sae_lightning.datamodules.base import ActivationDataModule
from sae_lightning.datamodules.buffer import ShuffleBuffer
from sae_lightning.datamodules.packing import CHUNKS_AHEAD, PackedRows, Packing
from sae_lightning.datamodules.text import Text
from sae_lightning.datamodules.token_stream import TokenStream, counted_activations, in_batches
from sae_lightning.sources import ActivationSource, LanguageModelSource, Null, NullSource, TokenBatch


class LanguageModelDataModule(ActivationDataModule):
    """Activations of a language model at a hook, made while training; only tokens that are not special count.

    Args:
        model: folder of a transformers checkpoint, or its name on the hub.
        hook: dotted name of a submodule, as in `named_modules()`, for example model.layers.2; for several, names of
            yours with one each, for example {early: model.layers.1, late: model.layers.3}.
        text: what the model reads: FileText, HubText or PocketText.
        hook_input: take what goes into the submodule and not what comes out. Default: false.
        revision: branch, tag or commit of the model on the hub. Default: its main branch.
        dtype: number format of the model; auto is the one it is stored in.
        tokenizer: folder or name of the tokenizer. Default: the model's own.
        context_length: tokens in a row of text, its first token included, at most what the model can read.
        bos_in_every_row: put the beginning token in front of rows that do not begin with a document, if there is one.
        batch_size: activations in a batch of one rank.
        train_samples: tokens in an epoch, all ranks together; the text is read again when it ends before.
        val_samples: held-out tokens in a validation, all ranks together, or as many as there are.
        loss_samples: held-out tokens for evaluators that run the whole model, all ranks together.
        buffer_samples: activations that are shuffled together, in a rank.
        buffer_dtype: number format in the buffer; bfloat16 halves its memory.
        llm_batch_size: rows of text in a forward of the model.
        nulls: null versions of the activations, by names of yours, on which a SanityPanel trains the same SAEs again:
            GaussianMatched, ShuffledDimensions, RandomRotation, Reinitialised. Each takes as much of the buffer as the
            activations. Default: none.
        seed: decides the order of the activations.
    """

    source: LanguageModelSource | NullSource
    unit = "tokens"

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
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, train_samples, val_samples, seed)
        for name, value in (("llm_batch_size", llm_batch_size), ("loss_samples", loss_samples)):
            if value < 1:
                raise ValueError(f"{name}={value}: expected at least 1")
        least = batch_size + llm_batch_size * context_length
        if buffer_samples < max(least, 2 * llm_batch_size * context_length):
            raise ValueError(
                f"buffer_samples={buffer_samples}: expected at least "
                f"{max(least, 2 * llm_batch_size * context_length)}, room for a batch and for two forwards of "
                f"llm_batch_size * context_length = {llm_batch_size * context_length} tokens"
            )
        from sae_lightning.sources.checkpoint import load_tokenizer

        source = LanguageModelSource(model, hook, hook_input, revision, dtype)
        self.source = NullSource(source, nulls, partial(self._sample, source)) if nulls else source
        self.text, self.loss_samples, self.llm_batch_size = text, loss_samples, llm_batch_size
        self.buffer_samples, self.buffer_dtype = buffer_samples, getattr(torch, buffer_dtype)
        _check_context_length(source, context_length)
        self.packing = Packing(load_tokenizer(tokenizer or model, revision), context_length, bos_in_every_row)
        self._heldout: TokenBatch | None = None

    @override
    def setup(self, stage: str) -> None:
        """Moves the model to this rank's device and reads the beginning of the text, so that a mistake shows now."""
        if self.trainer is not None:
            self.source.to(self.trainer.strategy.root_device)
        if stage == "fit":
            self._check_train_text()
        self._n_batches("val_samples", self.val_samples)

    @override
    def train_stream(self) -> TokenStream:
        """This rank's training stream, from the beginning of the text."""
        rows = PackedRows(self.packing, self.text.train, on_restart=self._tell_restart, ahead=CHUNKS_AHEAD)
        # Each rank has an order of its own; the rows differ anyway.
        seed = self.seed * 1_000_003 + self.rank
        buffer = ShuffleBuffer(self.buffer_samples, self.d_in, self.buffer_dtype, seed, self.source.device)
        return TokenStream(self.source, rows, buffer, self.batch_size, self.llm_batch_size, self.rank, self.world_size)

    @override
    def val_stream(self) -> Iterator[Float[Tensor, "batch d_in"]]:
        """This rank's held-out activations in the order of the text, the same each time."""
        parts = (counted_activations(self.source, inputs) for inputs in self._forwards(self._own_heldout()))
        return in_batches(parts, self.batch_size)

    def validation_inputs(self) -> Iterator[TokenBatch]:
        """This rank's held-out rows with about `loss_samples` tokens that count, on the source's device."""
        rows = self._own_heldout()
        enough = rows.mask.sum(1).cumsum(0) >= -(-self.loss_samples // self.world_size)
        n_rows = int((~enough).sum()) + 1
        for inputs in self._forwards(TokenBatch(rows.input_ids[:n_rows], rows.mask[:n_rows])):
            yield inputs.to(self.source.device)

    def heldout_rows(self, n_tokens: int) -> TokenBatch:
        """The first held-out rows with n_tokens that count, or all there are; the same on every rank."""
        input_ids = _first_pass(PackedRows(self.packing, lambda _: self.text.heldout()), self.packing, n_tokens)
        return TokenBatch(input_ids, self.packing.mask(input_ids))

    @override
    def calibration_sample(self, n: int) -> Float[Tensor, "n d_in"]:
        """Gives n shuffled activations from the beginning of the text, the same on every rank; moves no stream."""
        return self._sample(self.source, n)

    def _sample(self, source: ActivationSource, n: int) -> Float[Tensor, "n d_in"]:
        rows = PackedRows(self.packing, self.text.train)
        parts: list[Tensor] = []
        while sum(map(len, parts)) < n:
            input_ids = rows.take(self.llm_batch_size)
            parts.append(counted_activations(source, TokenBatch(input_ids, self.packing.mask(input_ids))))
        activations = torch.cat(parts)
        shuffled = torch.randperm(len(activations), generator=torch.Generator().manual_seed(self.seed))[:n]
        return activations[shuffled.to(activations.device)].float()

    @override
    def _n_batches(self, name: str, samples: int) -> int:
        """Held-out text may have fewer tokens than `val_samples`, and every rank another number of them."""
        n_batches = super()._n_batches(name, samples)
        if name == "train_samples":
            return n_batches
        counts = self._heldout_rows().mask.sum(1)
        least = min(int(counts[rank :: self.world_size].sum()) for rank in range(self.world_size))
        if least < self.batch_size:
            raise ValueError(
                f"the held-out text has {int(counts.sum())} tokens that count, fewer than one batch for each process "
                f"(batch_size={self.batch_size}): give more held-out text or a smaller batch_size"
            )
        return min(n_batches, least // self.batch_size)

    def _heldout_rows(self) -> TokenBatch:
        """Held-out rows of all ranks with `val_samples` or `loss_samples` tokens, tokenised once."""
        if self._heldout is None:
            wanted = max(self.val_samples, self.loss_samples) + self.world_size * self.packing.context_length
            self._heldout = self.heldout_rows(wanted)
        return self._heldout

    def _own_heldout(self) -> TokenBatch:
        rows = self._heldout_rows()
        own = slice(self.rank, None, self.world_size)
        return TokenBatch(rows.input_ids[own], rows.mask[own])

    def _forwards(self, rows: TokenBatch) -> Iterator[TokenBatch]:
        for ids, mask in zip(
            rows.input_ids.split(self.llm_batch_size), rows.mask.split(self.llm_batch_size), strict=True
        ):
            yield TokenBatch(ids, mask)

    def _check_train_text(self) -> None:
        wanted = self.batch_size * self.world_size
        input_ids = _first_pass(PackedRows(self.packing, self.text.train), self.packing, wanted)
        if (n := int(self.packing.mask(input_ids).sum())) < wanted:
            raise ValueError(
                f"the training text has {n} tokens that count, fewer than one batch for each process "
                f"(batch_size={self.batch_size}, {self.world_size} processes): give more text or a smaller batch_size"
            )

    def _tell_restart(self, number: int) -> None:
        if number == 2:
            rank_zero_info("The training text has ended and is read again, as often as train_samples needs.")


def _first_pass(rows: PackedRows, packing: Packing, n_tokens: int) -> Tensor:
    """Rows [n, seq] with n_tokens tokens that count, or all there are: the text is read once at most."""
    parts: list[Tensor] = []
    counted = 0
    while counted < n_tokens:
        row = rows.take(1)
        if rows.passes:
            break
        parts.append(row)
        counted += int(packing.mask(row).sum())
    return torch.cat(parts)


def _check_context_length(source: LanguageModelSource, context_length: int) -> None:
    limit = getattr(source.model.config, "max_position_embeddings", None)
    if limit is not None and context_length > limit:
        raise ValueError(f"context_length={context_length}: {source.name} reads at most {limit} tokens")
