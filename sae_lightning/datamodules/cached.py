"""Activations from a cache on disk, written by `sae cache`: shuffled as a whole, at the speed of the disk."""

from collections.abc import Iterator
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from typing_extensions import override

from sae_lightning.checks import check_seed, check_whole
from sae_lightning.datamodules.base import ActivationDataModule
from sae_lightning.datamodules.buffer import ShuffleBuffer
from sae_lightning.datamodules.cache.manifest import Shard, check_shards, fingerprint, read_manifest, shards_of
from sae_lightning.datamodules.cache.massive import RuleOfCache
from sae_lightning.datamodules.cache.rows import CachedBlocks, CachedRows, read_text
from sae_lightning.datamodules.cache.source import CachedSource
from sae_lightning.datamodules.cache.storage import Folder, free_bytes, is_full
from sae_lightning.datamodules.cache.streams import ShuffledStream, TextOrderStream
from sae_lightning.datamodules.packing import Packing, RowMaker
from sae_lightning.datamodules.stream import Stream
from sae_lightning.images import Images
from sae_lightning.sources import TokenBatch
from sae_lightning.sources.checkpoint import check_folder, load_tokenizer
from sae_lightning.sources.massive import check_max_norm_ratio


class CachedActivations(ActivationDataModule):
    """Activations of a model from a cache that `sae cache` wrote; the model is run by evaluators only.

    Args:
        path: folder of the cache, or its URL, such as s3://bucket/folder.
        order: shuffled draws from the whole cache, each pass over it in another order; stream gives the batches that
            the original datamodule gives with the same sizes and seed, as far as the cache goes.
        batch_size: activations in a batch of one rank.
        train_samples: activations in an epoch, all ranks together; a smaller cache is read again. Default: all.
        val_samples: held-out activations in a validation, all ranks together, or as many as there are. Default: all.
        loss_samples: held-out activations for evaluators that run the whole model, all ranks together.
        buffer_samples: activations in a rank that in order shuffled are read at once (memory holds twice as many), and
            in order stream are shuffled together.
        verify: compare the hash of every shard with the manifest before training, or only its size.
        local_folder: where shards are copied to when path is a URL. Default: a folder in data/cache named after it.
        n_workers: threads in a rank that read in order shuffled.
        max_norm_ratio: leave activations with a norm above this many times the median norm out; null keeps them. As a
            rule they are not in the cache, which was written with this option of its data; a cache that has them is
            read through once at the start to find them.
        seed: decides the order of the activations.
    """

    source: CachedSource
    unit = "tokens"

    def __init__(
        self,
        path: str,
        order: Literal["shuffled", "stream"] = "shuffled",
        batch_size: int = 4096,
        train_samples: int | None = None,
        val_samples: int | None = None,
        loss_samples: int = 16_384,
        buffer_samples: int = 65_536,
        verify: Literal["hash", "size"] = "hash",
        local_folder: str | None = None,
        n_workers: int = 8,
        max_norm_ratio: float | None = 10.0,
        seed: int = 0,
    ) -> None:
        check_whole(1, batch_size=batch_size, loss_samples=loss_samples, n_workers=n_workers)
        check_whole(batch_size, buffer_samples=buffer_samples, hint=f"room for a batch, batch_size={batch_size}")
        check_seed(seed=seed)
        check_max_norm_ratio(max_norm_ratio)
        wanted: dict[str, Any] = {"train_samples": train_samples, "val_samples": val_samples}
        check_whole(1, **{name: samples for name, samples in wanted.items() if samples is not None})
        self.remote = Folder(path)
        self.manifest = read_manifest(self.remote)
        counts = self.manifest["counts"]
        super().__init__(
            batch_size,
            counts["tokens"] if train_samples is None else train_samples,
            counts["heldout_tokens"] if val_samples is None else val_samples,
            seed,
        )
        data = self.manifest["data"]  # the only place of these two in the first caches
        self.rows_at_once: int = self.manifest.get("rows_at_once") or data["llm_batch_size"]
        self.block_tokens: int = self.rows_at_once * (self.manifest.get("positions") or data["context_length"])
        least = batch_size
        if order == "stream":
            least = max(batch_size + self.block_tokens, 2 * self.block_tokens)
        if buffer_samples < least:
            room = f" and for forwards of {self.block_tokens} tokens" if order == "stream" else ""
            raise ValueError(f"buffer_samples={buffer_samples}: expected at least {least}, room for a batch{room}")
        self.path, self.order, self.loss_samples, self.buffer_samples = path, order, loss_samples, buffer_samples
        self.verify, self.n_workers = verify, n_workers
        self.folder = Path(self.remote.root) if self.remote.is_local else _local_folder(path, local_folder)
        self.source = CachedSource(self.manifest, path)
        self._name = fingerprint(self.manifest)
        self._shards = {split: shards_of(self.manifest, split) for split in ("train", "heldout")}
        self._rows: dict[str, CachedRows] = {}
        self.massive = self._rule = self.source.massive = RuleOfCache(
            self.manifest, path, max_norm_ratio, lambda: self._all_rows("train")
        )

    @property
    def llm_batch_size(self) -> int:
        """Rows of text in a forward of the model."""
        return self.rows_at_once

    @override
    @cached_property
    def images(self) -> Images | None:  # type: ignore[override]  # read-only: making it takes the model
        """The images, for evaluators; None for a cache of text."""
        return self.source.origin.images if self.source.reads_images else None

    @cached_property
    def mask(self) -> Tensor | None:  # type: ignore[override]
        """Valid positions of an image, [n_positions] bool; None for a cache of text."""
        return self.source.origin.mask if self.source.reads_images else None

    @cached_property
    def packing(self) -> RowMaker | None:  # type: ignore[override]
        """How evaluators read text: with the tokenizer that the cache was made with; None for a cache of images."""
        if not self.source.is_language_model:
            return self.source.origin.packing
        data = self.manifest["data"]
        tokenizer = load_tokenizer(data["tokenizer"] or data["model"], data["revision"])
        skip_first = data.get("skip_first_positions", 0)
        return Packing(tokenizer, data["context_length"], data["bos_in_every_row"], skip_first)

    @override
    def describe(self) -> dict[str, Any]:
        return super().describe() | {"cache": self._name, "made_from": self.manifest.get("provenance")}

    @override
    def prepare_data(self) -> None:
        """Copy shards from a URL and check every shard; once on each machine."""
        if not self.remote.is_local:
            self._fetch()
        self._check(hashes=self.verify == "hash")

    @override
    def setup(self, stage: str) -> None:
        """Check that every shard exists, and set the device of the model that evaluators run."""
        self._check(hashes=False)
        if self.trainer is not None:
            self.source.to(self.trainer.strategy.root_device)
        self._prepare_massive()
        self._n_batches("val_samples", self.val_samples)
        try:
            check_folder(self.manifest["data"]["model"])
        except ValueError as error:
            rank_zero_info(f"{error}. Training from the cache needs no model; evaluators that run it will stop the run")

    @override
    def train_stream(self) -> Stream:
        """Return this rank's training stream, from the beginning of the cache."""
        rows, share = self._cached("train"), self.share
        self._say_passes(len(rows))
        if self.order == "shuffled":
            return ShuffledStream(
                rows, self.batch_size, self.seed, *share, self.buffer_samples, self.n_workers, self._name
            )
        # As in ModelActivations: each reader has an order of its own.
        seed = self.seed * 1_000_003 + share[0]
        buffer = ShuffleBuffer(self.buffer_samples, self.d_in, rows.dtype, seed)
        blocks = CachedBlocks(rows, self.rows_at_once)
        return TextOrderStream(blocks, buffer, self.batch_size, self.block_tokens, *share, self._name)

    @property
    @override
    def exchange_dtype(self) -> torch.dtype:
        return self._cached("train").dtype

    @override
    def val_stream(self) -> Iterator[Float[Tensor, "batch d_in"]]:
        """Iterate over this rank's held-out activations: every `world_size`-th batch, in the order of the text."""
        rows, step = self._cached("heldout"), self.batch_size * self.world_size
        for begin in range(self.rank * self.batch_size, len(rows) - self.batch_size + 1, step):
            yield rows.slice(begin, begin + self.batch_size).float()

    @override
    def validation_inputs(self) -> Iterator[Any]:
        """Iterate over this rank's held-out inputs with about `loss_samples` valid positions, on the model's device."""
        text = read_text(self.folder, self._shards["heldout"])
        ids, mask = (part[self.rank :: self.world_size] for part in (text.input_ids, text.mask))
        enough = mask.sum(1).cumsum(0) >= -(-self.loss_samples // self.world_size)
        n_rows = int((~enough).sum()) + 1
        for begin in range(0, min(n_rows, len(ids)), self.rows_at_once):
            part = slice(begin, min(begin + self.rows_at_once, n_rows))
            yield self._inputs(TokenBatch(ids[part], mask[part])).to(self.source.device)

    def heldout_rows(self, n_samples: int) -> Any:
        """Return the first held-out inputs with n_samples valid positions, or all; the same on every rank."""
        text = read_text(self.folder, self._shards["heldout"])
        n_rows = int((text.mask.sum(1).cumsum(0) < n_samples).sum()) + 1
        return self._inputs(TokenBatch(text.input_ids[:n_rows], text.mask[:n_rows]))

    @override
    def find_non_finite(self) -> str | None:
        """Search the shards, which takes as long as reading them."""
        return next((place for split in self._shards if (place := self._cached(split).find_non_finite())), None)

    def _inputs(self, rows: TokenBatch) -> Any:
        """Return what the model reads: the text itself, or the images with these numbers."""
        if self.source.is_language_model:
            return rows
        return self.source.origin.inputs(rows.input_ids[rows.mask.any(1)])

    @override
    def calibration_sample(self, n: int) -> Float[Tensor, "n d_in"]:
        """Return the first n activations of the order in one rank, without a shuffle buffer."""
        rows = self._cached("train")
        if self.order == "shuffled":
            first = ShuffledStream(rows, n, self.seed, buffer_samples=n, n_workers=1)
            return next(first)
        blocks = CachedBlocks(rows, self.rows_at_once)
        parts: list[Tensor] = []
        while sum(map(len, parts)) < n:
            parts.append(blocks[len(parts)])
        activations = torch.cat(parts)
        shuffled = torch.randperm(len(activations), generator=torch.Generator().manual_seed(self.seed))[:n]
        return activations[shuffled].float()

    @override
    def _n_batches(self, name: str, samples: int) -> int:
        """Return the number of batches; the cache may hold fewer held-out tokens than `val_samples`."""
        if name == "val_samples":
            samples = min(samples, len(self._cached("heldout")))
        return super()._n_batches(name, samples)

    def _cached(self, split: str) -> CachedRows:
        """Return the activations of a split, opened once."""
        if split not in self._rows:
            self._rows[split] = self._rule.kept(self._all_rows(split))
        return self._rows[split]

    def _all_rows(self, split: str) -> CachedRows:
        in_order = split == "heldout" or self.order == "stream"
        return CachedRows(self.folder, self._shards[split], self.manifest["dtype"], self.d_in, in_order)

    @override
    def massive_in_training(self) -> tuple[int, int]:
        """Return how many activations of the training part are left out, here or from the cache, and of how many."""
        return self._massive_in("train")

    @override
    def massive_in_validation(self) -> tuple[int, int]:
        """Return how many activations of the held-out part are left out, here or from the cache, and of how many."""
        return self._massive_in("heldout")

    def _massive_in(self, split: str) -> tuple[int, int]:
        n_valid = sum(shard.tokens + shard.massive for shard in self._shards[split])
        return n_valid - len(self._cached(split)), n_valid

    def _check(self, hashes: bool) -> None:
        check_shards(self.folder, self._all_shards(), self.manifest["dtype"], self.d_in, hashes)

    def _all_shards(self) -> list[Shard]:
        return [*self._shards["train"], *self._shards["heldout"]]

    def _fetch(self) -> None:
        """Copy the shards that are not in the local folder yet.

        Raises:
            ValueError: if the disk has too little room, or a shard is missing.
        """
        missing = [shard for shard in self._all_shards() if not _has_size(self.folder / shard.file, shard.bytes)]
        needed, free = sum(shard.bytes for shard in missing), free_bytes(self.folder)
        if needed > free:
            raise ValueError(
                f"local_folder={self.folder}: {needed / 1e9:.2f} GB have to be copied from {self.path} and "
                f"{free / 1e9:.2f} GB are free; give a folder on a larger disk"
            )
        if missing:
            rank_zero_info(f"Copying {len(missing)} shards, {needed / 1e9:.2f} GB, from {self.path} to {self.folder}.")
        for shard in missing:
            try:
                self.remote.fetch(shard.file, self.folder / shard.file)
            except FileNotFoundError as error:
                raise ValueError(f"path={self.path}: {shard.file} is missing") from error
            except OSError as error:
                if not is_full(error):
                    raise
                raise ValueError(
                    f"local_folder={self.folder}: the disk is full; what was copied is kept, and the same command "
                    "continues when there is room"
                ) from error


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _local_folder(url: str, given: str | None) -> Path:
    if given is not None:
        return Path(given).expanduser()
    name = url.rstrip("/").rsplit("/", 1)[-1]
    return Path("data/cache") / f"{name}-{sha256(url.encode()).hexdigest()[:8]}"
