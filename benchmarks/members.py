"""Compare DDP with members on different ranks: time of a step and bytes that a rank sends, on gloo processes of a CPU.

    OMP_NUM_THREADS=1 python -m benchmarks.members [--ranks 1 2 4] [--d-in 256] [--d-sae 4096] [--plot members.svg]

Every number of ranks trains the same panel of four BatchTopK on the same global batch. Times are medians over steps,
the first two left out. Bytes are what collectives of a step carry by their shapes: an all-reduce counts 2 (n - 1) / n
of its tensor, an all-gather (n - 1) times the share of this rank.
"""

import argparse
import json
import logging
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from sae_lightning.datamodules import ActivationFiles
from sae_lightning.panel import SanityPanel
from sae_lightning.saes import BatchTopK
from sae_lightning.strategies import MembersStrategy


class Clock(Callback):
    """Time from step to step, and the bytes that collectives sent meanwhile."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.sent: list[float] = []
        self._bytes, self._since = 0.0, 0.0
        _count(self)

    def add(self, n_bytes: float) -> None:
        """Count bytes."""
        self._bytes += n_bytes

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:  # noqa: ANN401
        """Note the step."""
        now = time.perf_counter()
        if self._since:
            self.seconds.append(now - self._since)
            self.sent.append(self._bytes)
        self._since, self._bytes = now, 0.0


def _count(clock: Clock) -> None:
    """Count what goes through `all_reduce` and `all_gather`; the gradients of DDP are added in `train`."""
    reduce, gather = dist.all_reduce, dist.all_gather

    def all_reduce(tensor: Tensor, *args: Any, group: Any = None, **kwargs: Any) -> Any:  # noqa: ANN401
        n = dist.get_world_size(group)
        clock.add(2 * (n - 1) / n * tensor.nbytes)
        return reduce(tensor, *args, group=group, **kwargs)

    def all_gather(gathered: list[Tensor], tensor: Tensor, *args: Any, group: Any = None, **kwargs: Any) -> Any:  # noqa: ANN401
        clock.add((dist.get_world_size(group) - 1) * tensor.nbytes)
        return gather(gathered, tensor, *args, group=group, **kwargs)

    dist.all_reduce, dist.all_gather = all_reduce, all_gather


def train(rank: int, ranks: int, strategy: str, port: int, folder: str, sizes: dict[str, int]) -> None:
    """Train as one rank; the first writes what it measured."""
    if ranks > 1:
        os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
        os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning").setLevel(logging.ERROR)
    panel = SanityPanel(sizes["d_in"], lambda d_in: BatchTopK(d_in, d_sae=sizes["d_sae"], k=32))
    data = ActivationFiles(
        f"{folder}/rows.npy", batch_size=sizes["batch"] // ranks, train_samples=sizes["batch"] * sizes["steps"]
    )
    strategies: dict[str, Any] = {"one process": "auto", "ddp": "ddp", "members": MembersStrategy()}
    clock = Clock()
    trainer = Trainer(
        accelerator="cpu", devices=ranks, strategy=strategies[strategy], max_epochs=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
        callbacks=[clock], default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(panel, datamodule=data)
    if trainer.is_global_zero:
        gradients = sum(one.numel() * 4 for one in panel.parameters() if one.requires_grad)
        sent = statistics.median(clock.sent[2:]) + (2 * (ranks - 1) / ranks * gradients if strategy == "ddp" else 0)
        result = {"seconds": statistics.median(clock.seconds[2:]), "bytes": sent}
        Path(folder, "result.json").write_text(json.dumps(result))


def measure(ranks: int, strategy: str, folder: str, sizes: dict[str, int]) -> dict[str, float]:
    """Train on a number of ranks and return the seconds of a step and the bytes that a rank sends in it."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=train, args=(rank, ranks, strategy, port, folder, sizes)) for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit(f"{strategy} on {ranks} ranks ended with {[process.exitcode for process in processes]}")
    result: dict[str, float] = json.loads(Path(folder, "result.json").read_text())
    return result


def plot(measured: Sequence[Mapping[str, Any]], path: str) -> None:
    """Draw the time of a step and the bytes that a rank sends in it, as bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    labels = [f"{each['ranks']} x {each['strategy']}" if each["ranks"] > 1 else each["strategy"] for each in measured]
    colours = ["#c0392b" if each["strategy"] == "members" else "#95a5a6" for each in measured]
    figure, axes = pyplot.subplots(1, 2, figsize=(8, 0.4 * len(labels) + 1), sharey=True)
    for axis, number, what in zip(axes, ("ms", "mb"), ("ms a step", "MB that a rank sends in a step"), strict=True):
        axis.bar_label(axis.barh(labels, [each[number] for each in measured], color=colours), fmt="%.3g", padding=3)
        axis.set_xlabel(what)
        axis.margins(x=0.2)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.members", description=__doc__.split("\n")[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--plot", metavar="FILE", help="also draw bars, as .svg or .png")
    for name, default in {"d_in": 256, "d_sae": 4096, "batch": 1024, "steps": 20}.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    sizes = vars(parser.parse_args())
    to_plot, measured = sizes.pop("plot"), []
    print("| ranks | strategy | ms a step | MB sent by a rank |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        n_rows = 16 * sizes["batch"]  # of which a tenth is held out, and that must be a batch
        rows = np.random.default_rng(0).standard_normal((n_rows, sizes["d_in"]), dtype=np.float32)
        np.save(f"{folder}/rows.npy", rows)
        for ranks in sizes.pop("ranks"):
            for strategy in ("ddp", "members") if ranks > 1 else ("one process",):
                result = measure(ranks, strategy, folder, sizes)
                ms, mb = 1e3 * result["seconds"], result["bytes"] / 1e6
                measured.append({"ranks": ranks, "strategy": strategy, "ms": ms, "mb": mb})
                print(f"| {ranks} | {strategy} | {ms:.3g} | {mb:.3g} |", flush=True)
    if to_plot:
        plot(measured, to_plot)


if __name__ == "__main__":
    main()
