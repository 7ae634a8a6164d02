"""How fast a cache is read: rows and bytes per second in both orders, beside plain reads of the same files.

    python -m benchmarks.cache [--rows 300000] [--width 512] [--dtype bfloat16] [--batch 4096] [--workers 8]

The cache holds random numbers in a temporary folder and stays in the page cache, so the benchmark measures the work of
the reader; on a disk, the slower of reader and disk sets the speed. Each line is the fastest of three turns.

- files: read the shards from beginning to end, 4 MB at a time, and keep nothing. No reader is faster.
- random rows: one thread with one `pread` for each row of a permutation, as a simple reader would do it.
- shuffled: batches of `CachedActivations` in float32, ready in memory, before any copy to a device.
- stream: the same with order stream, which follows the text through the shuffle buffer.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from itertools import islice
from pathlib import Path
from time import perf_counter

import torch
from safetensors.torch import save

from sae_lightning import cpu_settings
from sae_lightning.datamodules import CachedActivations
from sae_lightning.datamodules.cache.manifest import FORMAT, FORMAT_VERSION, MANIFEST, Shard, layout, shards_of
from sae_lightning.datamodules.cache.permutation import Permutation

CONTEXT, LLM_BATCH, TURNS = 128, 32, 3
BLOCK = CONTEXT * LLM_BATCH


def make_cache(folder: Path, n_rows: int, d_in: int, dtype: str, n_shards: int = 4) -> None:
    """Write shards of random numbers in which every token is valid."""
    shards = []
    blocks = -(-n_rows // (BLOCK * n_shards))
    names = [f"train-{i:05d}.safetensors" for i in range(n_shards)] + ["heldout-00000.safetensors"]
    for seed, name in enumerate(names):
        n = blocks * LLM_BATCH
        generator = torch.Generator().manual_seed(seed)
        activations = torch.randn(n * CONTEXT, d_in, generator=generator).to(getattr(torch, dtype))
        ids = torch.zeros(n, CONTEXT, dtype=torch.int32)
        data = save({"activations": activations, "input_ids": ids, "mask": torch.ones_like(ids, dtype=torch.bool)})
        (folder / name).write_bytes(data)
        shards.append(asdict(Shard(name, n, n * CONTEXT, len(data), sha256(data).hexdigest(), "")))
    tokens = blocks * BLOCK
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "complete": True,
        "dtype": dtype,
        "d_in": d_in,
        "widths": {},
        "data": {"model": "none", "context_length": CONTEXT, "llm_batch_size": LLM_BATCH},
        "counts": {"tokens": tokens * n_shards, "heldout_tokens": tokens},
        "shards": shards,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest))


def seconds(work: Callable[[], None]) -> float:
    """Return the seconds of the fastest of a few turns."""
    turns = []
    for _ in range(TURNS):
        began = perf_counter()
        work()
        turns.append(perf_counter() - began)
    return min(turns)


def read_files(paths: list[Path]) -> None:
    """Read every byte into one buffer."""
    buffer = bytearray(2**22)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def read_random_rows(folder: Path, shard: Shard, dtype: str, d_in: int) -> None:
    """Read the rows of a shard one by one in random order."""
    rows = layout(folder / shard.file, shard, dtype, d_in)
    size = rows.nbytes // shard.tokens
    file = os.open(folder / shard.file, os.O_RDONLY)
    for row in Permutation(shard.tokens, 0)(torch.arange(shard.tokens).numpy()).tolist():
        os.pread(file, size, rows.begin + row * size)
    os.close(file)


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--folder", help="folder in which the temporary one is made")
    options = parser.parse_args()
    cpu_settings.speed_up_cpu()  # as every command does
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        make_cache(folder, options.rows, options.width, options.dtype)
        modules = {
            order: CachedActivations(name, order, options.batch, n_workers=options.workers)  # type: ignore[arg-type]
            for order in ("shuffled", "stream")
        }
        shards = shards_of(modules["stream"].manifest, "train")
        n = sum(shard.tokens for shard in shards)
        row_bytes = options.width * getattr(torch, options.dtype).itemsize
        work: dict[str, tuple[int, Callable[[], None]]] = {
            "files": (n, lambda: read_files([folder / shard.file for shard in shards])),
            "random rows": (
                shards[0].tokens,
                lambda: read_random_rows(folder, shards[0], options.dtype, options.width),
            ),
        }
        for order, datamodule in modules.items():
            stream, n_batches = datamodule.train_stream(), n // options.batch
            next(stream)  # the first batch waits for a buffer
            work[order] = (n_batches * options.batch, lambda s=stream, k=n_batches: [None for _ in islice(s, k)])  # type: ignore[misc]
        sys.stdout.write(f"{n} rows of {row_bytes} bytes, {options.dtype}, batches of {options.batch}\n")
        for reader, (rows, function) in work.items():
            speed = rows / seconds(function)
            sys.stdout.write(f"{reader:<12} {speed:>12,.0f} rows/s {speed * row_bytes / 1e9:6.2f} GB/s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
