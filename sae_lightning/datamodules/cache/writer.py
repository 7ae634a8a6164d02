"""`CacheWriter`: data -> model -> shards, on any number of ranks that do not communicate.

Every rank goes through the rows of all the data and runs the model on its own shards only: rank r of W on r, r + W, ...
The model gets the blocks of rows that a training stream would give it, so float32 shards hold the stream's activations
to the bit, and the files do not depend on the number of ranks or on interruptions.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from sae_lightning import __version__
from sae_lightning.datamodules.cache.blocks import first_pass, in_groups
from sae_lightning.datamodules.cache.manifest import (
    DEFAULTS,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    OLD_DATA,
    Shard,
    parse_manifest,
)
from sae_lightning.datamodules.cache.process import Process
from sae_lightning.datamodules.cache.source import model_identity
from sae_lightning.datamodules.cache.storage import TEMPORARY, Folder, is_full
from sae_lightning.datamodules.model_activations import ModelActivations
from sae_lightning.datamodules.token_stream import valid_activations_and_mask
from sae_lightning.sources import NullSource

_SHARD_BYTES = 256e6
_SECONDS_BETWEEN_REPORTS = 10


def check_request(nulls: Collection[str], out: str, shard_samples: int | None) -> None:
    """Refuse what no cache can be made of, which needs no model to see.

    Args:
        nulls: names of null versions of the activations.
        out: folder or URL of the cache.
        shard_samples: tokens in a shard; None for the default.

    Raises:
        ValueError: if there are nulls, the folder is a file, or a shard would be empty.
    """
    if nulls:
        raise ValueError(
            f"data.nulls={', '.join(nulls)}: a cache holds the activations of the model alone; "
            "leave out data.nulls, or train on the stream"
        )
    Folder(out)
    if shard_samples is not None and shard_samples < 1:
        raise ValueError(f"shard_samples={shard_samples}: expected at least 1")


class CacheWriter:
    """Writes the activations of a datamodule.

    The training part has `train_samples` valid tokens and `buffer_samples` more, which are in the buffer when a run on
    the stream ends; the held-out part has enough for `val_samples` and `loss_samples`. A short text gives fewer.
    Massive activations that the datamodule leaves out are not written; the manifest and a mask in each shard say so.

    Args:
        datamodule: model, hook, data and sizes.
        data: the arguments that the datamodule was made with, plain values.
        out: folder or URL of the cache.
        dtype: number format in the shards. Default: that of the model's activations.
        shard_samples: tokens in a shard, special ones included. Default: as many as make about 256 MB.
        command: the command that continues an interrupted cache, for the manifest.
        process: decides which shards are written here.

    Raises:
        ValueError: if the folder holds a cache with other settings, or the disk has too little room.
    """

    def __init__(
        self,
        datamodule: ModelActivations,
        data: dict[str, Any],
        out: str,
        dtype: str | None = None,
        shard_samples: int | None = None,
        command: str = "sae cache",
        process: Process | None = None,
    ) -> None:
        check_request(datamodule.null_parts, out, shard_samples)
        assert not isinstance(datamodule.source, NullSource)
        self.process = process or Process()
        self.datamodule, self.folder = datamodule, Folder(out)
        self.source = datamodule.source.to(self.process.device)
        rows = datamodule.rows_at_once
        self.block_tokens = rows * datamodule.positions
        self.n_train = datamodule.train_samples + datamodule.buffer_samples
        self.n_heldout = max(datamodule.val_samples, datamodule.loss_samples) + datamodule.positions
        self.dtype = getattr(torch, dtype) if dtype else self.source.dtype
        token_bytes = self.source.d_in * self.dtype.itemsize
        self.blocks_per_shard = max(1, round((shard_samples or _SHARD_BYTES / token_bytes) / self.block_tokens))
        self.settings: dict[str, Any] = {
            "class_path": type(datamodule).__name__,
            "data": data,
            "model": model_identity(self.source),
            "dtype": str(self.dtype).removeprefix("torch."),
            "shard_rows": self.blocks_per_shard * rows,
        }
        is_new = MANIFEST not in self.folder.sizes()
        self.manifest = self._new_manifest(command) if is_new else self._existing_manifest()
        self._use_norms()
        self.done = {} if is_new else self._finished_shards()
        self._check_room((self.n_train + self.n_heldout + self.block_tokens) * (token_bytes + 6))
        if is_new:
            self._write_json(MANIFEST, self.manifest)
        self.tokens = self.forwards = 0  # what this process has made
        self._began = self._reported = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self._began

    def write(self) -> bool:
        """Make the missing shards of this process; return whether the whole cache is complete.

        Raises:
            ValueError: if the disk is full, a number does not fit the format, or the data have changed.
        """
        names = []
        with ThreadPoolExecutor(1) as background:  # a shard is hashed and written while the next is made
            writing: Future[None] | None = None
            for split, wanted in (("heldout", self.n_heldout), ("train", self.n_train)):
                blocks = first_pass(self.datamodule, split, wanted)
                for number, part in enumerate(in_groups(blocks, self.blocks_per_shard)):
                    name = f"{split}-{number:05d}.safetensors"
                    names.append(name)
                    ids = torch.cat(part).int()
                    ids_sha256 = hashlib.sha256(ids.numpy().tobytes()).hexdigest()
                    if name in self.done:
                        self._check_same_text(name, ids_sha256)
                    elif (len(names) - 1) % self.process.world_size == self.process.rank:
                        store = self._shard(name, part, ids, ids_sha256)
                        if writing is not None:
                            writing.result()
                        writing = background.submit(store)
            if writing is not None:
                writing.result()
        return self._finish(names)

    def _new_manifest(self, command: str) -> dict[str, Any]:
        versions = {name: version(name) for name in ("torch", self.source.library, "safetensors")}
        manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, "complete": False, "command": command}
        manifest |= self.settings | {"d_in": self.source.d_in, "widths": self.source.widths}
        assert self.datamodule.massive is not None
        manifest |= {"massive": self.datamodule.massive.state_dict()}
        sizes = {"rows_at_once": self.datamodule.rows_at_once, "positions": self.datamodule.positions}
        manifest |= sizes | {"shards": []}
        what = {"data": self.datamodule.describe(), "activations": self.datamodule.describe_activations()}
        manifest |= {"provenance": what}
        return manifest | {"versions": {"sae_lightning": __version__, **versions}}

    def _existing_manifest(self) -> dict[str, Any]:
        """Read the manifest in the folder.

        Raises:
            ValueError: if its cache has other settings.
        """
        manifest = parse_manifest(self.folder.read(MANIFEST), self.folder.url)
        there: dict[str, Any] = {name: manifest.get(name, DEFAULTS.get(name)) for name in self.settings}
        there["data"] = OLD_DATA | dict(there["data"] or {})
        here = self.settings | {"data": OLD_DATA | self.settings["data"]}
        no_effect = self.datamodule.no_effect_on_rows
        if differences := list(_differences(_plain(there, no_effect), _plain(here, no_effect))):
            raise ValueError(
                f"out={self.folder.url}: there is a cache with other settings ({'; '.join(differences)}). Give another "
                "folder, or the settings of the one that is there, or remove it"
            )
        return manifest

    def _use_norms(self) -> None:
        """Leave out what the manifest says, whichever rank has measured it, and read more text for it."""
        massive = self.datamodule.massive
        assert massive is not None
        if "massive" not in self.manifest:  # nothing was left out yet when this cache was begun
            massive.keep_all()
            return
        massive.load_state_dict(self.manifest["massive"])
        if massive.leaves_out:
            # Inputs do not tell which positions are massive: there are rows for twice as many as in the sample.
            self.n_train, self.n_heldout = (round(n * (1 + 2 * massive.share)) for n in (self.n_train, self.n_heldout))

    def _finished_shards(self) -> dict[str, dict[str, Any]]:
        """Return the entries of shards that exist in full size, by name; some have sums for the statistics."""
        sizes = self.folder.sizes()
        entries = [{"shard": entry} for entry in self.manifest["shards"]]
        for name in sizes:
            if name.endswith(".safetensors.json"):
                try:
                    entries.append(json.loads(self.folder.read(name)))
                except FileNotFoundError:  # another rank has just written the manifest
                    return self._after_another_rank()
        return {
            entry["shard"]["file"]: entry
            for entry in entries
            if sizes.get(entry["shard"]["file"]) == entry["shard"]["bytes"]
        }

    def _after_another_rank(self) -> dict[str, dict[str, Any]]:
        self.manifest = parse_manifest(self.folder.read(MANIFEST), self.folder.url)
        return {entry["file"]: {"shard": entry} for entry in self.manifest["shards"]}

    def _check_room(self, nbytes: int) -> None:
        free = self.folder.free_bytes()
        needed = nbytes - sum(entry["shard"]["bytes"] for entry in self.done.values())
        if free is not None and needed > free:
            raise ValueError(
                f"out={self.folder.url}: up to {needed / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB are free. Make "
                "room, give another disk, a smaller --dtype, or fewer --data.train_samples"
            )

    def _check_same_text(self, name: str, ids_sha256: str) -> None:
        if self.done[name]["shard"]["input_ids_sha256"] != ids_sha256:
            raise ValueError(
                f"out={self.folder.url}: the {self.datamodule.data_name}, or how rows are made from it, changed since "
                f"{name} was written; give another folder, or remove the cache"
            )

    def _shard(self, name: str, blocks: list[Tensor], ids: Tensor, ids_sha256: str) -> Callable[[], None]:
        """Run the model on the rows of a shard; return a function that writes it."""
        n_valid = int(self.datamodule.n_valid(torch.cat(blocks)).sum())  # more than activations if an image is damaged
        activations = torch.empty(n_valid, self.source.d_in, dtype=self.dtype)
        masks, massive = [], []
        sums = np.zeros(self.source.d_in + 2)
        begin = 0
        for block in blocks:
            inputs = self.datamodule.inputs(block)
            valid, kept = valid_activations_and_mask(self.source, inputs)
            valid = valid.to(self.dtype)
            masks.append(_of_all_rows(block, inputs, inputs.mask))
            massive.append(_of_all_rows(block, inputs, inputs.mask & ~kept.to(inputs.mask.device)))
            activations[begin : begin + len(valid)] = valid
            begin += len(valid)
            sums += _sums(valid)
            self._count(name, len(valid))
        if not np.isfinite(sums).all() and (n := int((~torch.isfinite(activations)).sum())):
            raise ValueError(
                f"{name}: {n} numbers do not fit {self.settings['dtype']} (they became infinite or nan); take --dtype "
                "bfloat16 or float32"
            )

        activations = activations[:begin]

        def store() -> None:
            tensors = {"activations": activations, "input_ids": ids, "mask": torch.cat(masks)}
            data = safetensors.torch.save(tensors | {"massive": torch.cat(massive)})
            digest = hashlib.sha256(data).hexdigest()
            n_massive = int(sum(part.sum() for part in massive))
            shard = Shard(name, len(ids), len(activations), len(data), digest, ids_sha256, n_massive)
            entry = {"shard": asdict(shard), "sums": sums.tolist()}
            self._write(name, data)
            self._write_json(f"{name}.json", entry)
            self.done[name] = entry
            self._report(name)

        return store

    def _finish(self, names: list[str]) -> bool:
        """Write the manifest if every shard exists, whichever rank wrote it; return whether it did."""
        self.done = self._finished_shards()
        if any(name not in self.done for name in names):
            return False
        entries = [self.done[name] for name in names]
        shards = [entry["shard"] for entry in entries]
        train = [entry for entry in entries if entry["shard"]["file"].startswith("train")]
        heldout = [entry for entry in entries if entry not in train]
        counts = {
            "tokens": sum(entry["shard"]["tokens"] for entry in train),
            "rows": sum(entry["shard"]["rows"] for entry in train),
            "massive": sum(entry["shard"].get("massive", 0) for entry in train),
            "heldout_massive": sum(entry["shard"].get("massive", 0) for entry in heldout),
            "heldout_tokens": sum(entry["shard"]["tokens"] for entry in heldout),
            "heldout_rows": sum(entry["shard"]["rows"] for entry in heldout),
            "shards": len(shards),
        }
        if all("sums" in entry for entry in train):  # not after a lost shard was made again
            self.manifest["statistics"] = _statistics(train, counts["tokens"])
        del self.manifest["shards"]  # so that the long list comes last
        self.manifest |= {"complete": True, "counts": counts, "shards": shards}
        self._write_json(MANIFEST, self.manifest)
        for name in self.folder.sizes():
            if name.endswith((".safetensors.json", TEMPORARY)):
                self.folder.remove(name)
        return True

    def _write_json(self, name: str, content: Any) -> None:
        self._write(name, (json.dumps(content, indent=2) + "\n").encode())

    def _write(self, name: str, data: bytes) -> None:
        try:
            self.folder.write(name, data)
        except OSError as error:
            if not is_full(error):
                raise
            raise ValueError(
                f"out={self.folder.url}: the disk is full. {len(self.done)} shards are complete and kept; the same "
                "command continues from there when there is room"
            ) from error

    def _count(self, name: str, tokens: int) -> None:
        """Add a forward to the counters, and report progress from time to time."""
        self.tokens += tokens
        self.forwards += 1
        if time.perf_counter() - self._reported > _SECONDS_BETWEEN_REPORTS:
            self._report(f"in {name}")

    def _report(self, where: str) -> None:
        self._reported = time.perf_counter()
        speed = self.tokens / self.seconds
        made = f"{self.tokens:,} {self.datamodule.unit} made, {speed:,.0f}/s"
        sys.stderr.write(f"{where}: {len(self.done)} shards done, {made}\n")
        sys.stderr.flush()


def _sums(activations: Tensor) -> np.ndarray:
    """Sum over activations [n, d_in] the norm, the squared norm and each coordinate; return [d_in + 2]."""
    squared = activations.float().square().sum(1).double()
    sums = torch.cat([squared.sqrt().sum()[None], squared.sum()[None], activations.sum(0, dtype=torch.float64)])
    return sums.cpu().numpy()


def _statistics(entries: list[dict[str, Any]], n: int) -> dict[str, float]:
    """Turn the sums of shards over n activations into means."""
    means = np.sum([entry["sums"] for entry in entries], axis=0) / n
    return {
        "mean_norm": float(means[0]),
        "mean_squared_norm": float(means[1]),
        "squared_norm_of_mean": float((means[2:] ** 2).sum()),
    }


def _of_all_rows(rows: Tensor, inputs: Any, positions: Tensor) -> Tensor:
    """Return positions of each row, none in a row that could not be read."""
    everywhere = torch.zeros(len(rows), inputs.mask.shape[1], dtype=torch.bool)
    everywhere[torch.isin(rows[:, 0], inputs.rows[:, 0]) if len(inputs.mask) < len(rows) else slice(None)] = positions
    return everywhere


def _plain(settings: dict[str, Any], no_effect: Sequence[str]) -> dict[str, Any]:
    """Return the settings that decide the content of a cache, as JSON has them."""
    data = {name: value for name, value in settings["data"].items() if name not in no_effect}
    return json.loads(json.dumps(settings | {"data": data}))


def _differences(there: Any, here: Any, name: str = "") -> Iterator[str]:
    """Describe each value that differs between two nested dictionaries."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted({*there, *here}):
            yield from _differences(there.get(key), here.get(key), f"{name}.{key}" if name else key)
    elif there != here:
        yield f"{name}={there} there, {here} here"
