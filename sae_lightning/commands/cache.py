"""``sae cache``: write the activations that a configuration trains on to disk, for `CachedActivations`.

The configuration is that of a run, of which only ``data`` counts, or that part alone. The same command again resumes
where it was stopped. Started by torchrun or srun, the processes share the shards.
"""

import pkgutil
import shlex
from typing import Literal

from jsonargparse import ArgumentParser

from sae_lightning import cpu_settings
from sae_lightning.commands.data_options import add_data, parse_data
from sae_lightning.commands.parser import make_parser
from sae_lightning.datamodules.cache.process import Process
from sae_lightning.datamodules.cache.writer import CacheWriter, check_request
from sae_lightning.datamodules.model_activations import ModelActivations
from sae_lightning.moving_line import wrapped


def main(args: list[str]) -> None:
    """Write a cache, or the rest of one."""
    cpu_settings.silence_known_noise()
    cpu_settings.speed_up_cpu()  # as `sae fit` does: it decides the last bits of what a model computes
    parser = _parser()
    settings = parse_data(parser, args[1:])
    kind = pkgutil.resolve_name(settings.data.class_path)
    if not issubclass(kind, ModelActivations):
        raise ValueError(
            f"data={kind.__name__}: sae cache needs the activations of a model, LanguageModelDataModule, ClipImages or "
            "ClipText; other data are made as fast as they are read"
        )
    check_request(settings.data.init_args.get("nulls") or {}, settings.out, settings.shard_samples)
    process = Process.from_environment()
    datamodule = parser.instantiate_classes(settings).data
    datamodule.check_parts()
    writer = CacheWriter(
        datamodule,
        settings.data.init_args.as_dict(),
        settings.out,
        settings.dtype,
        settings.shard_samples,
        shlex.join(["sae", *args]),
        process,
    )
    complete = writer.write()
    unit = kind.unit
    made = f"{writer.tokens:,} {unit} in {writer.seconds:.0f} s, {writer.tokens / writer.seconds:,.0f} {unit}/s"
    if not complete:
        done = f"rank {process.rank} of {process.world_size} has done its shards ({made}); others have not"
        print(wrapped(f"{settings.out}: {done}", 2))
        return
    counts = writer.manifest["counts"]
    nbytes = sum(shard["bytes"] for shard in writer.manifest["shards"])
    lines = [
        f"{settings.out}: {counts['tokens']:,} training and {counts['heldout_tokens']:,} held-out {unit} in "
        f"{counts['shards']} shards, {nbytes / 1e9:.2f} GB; made now: {made}"
    ]
    if counts.get("massive") or counts.get("heldout_massive"):
        lines.append(
            f"Left out as massive: {counts['massive']:,} training and {counts['heldout_massive']:,} held-out {unit} "
            "(data.max_norm_ratio; null keeps them)."
        )
    if counts["tokens"] + counts.get("massive", 0) < writer.n_train:
        lines.append(
            f"The training {kind.data_name} ended before the {writer.n_train:,} {unit} that were asked for "
            "(train_samples and a buffer more)."
        )
    print(*(wrapped(line, 2) for line in lines), sep="\n")
    print(f"Train from it: sae fit -c configs/sae/batch_topk.yaml --data CachedActivations --data.path {settings.out}")


def _parser() -> ArgumentParser:
    parser = make_parser("cache", __doc__)
    parser.add_argument("--out", type=str, required=True, help="Folder or URL (s3://bucket/folder) of the cache.")
    parser.add_argument(
        "--dtype",
        type=Literal["float32", "bfloat16", "float16"] | None,
        default=None,
        help="Number format on disk. Default: that of the model's activations.",
    )
    parser.add_argument(
        "--shard_samples", type=int | None, default=None, help="Tokens in a shard. Default: about 256 MB of them."
    )
    add_data(parser)
    return parser
