"""``metrics.jsonl``: what a run measured, one line a validation, for programs to read.

``{"step": 500, "samples": 2048000, "seconds": 61.2,
"metrics": {"fvu": {"trained": {"0": 0.21, "1": 0.22}, "frozen_decoder": {...}}}, "floors": {"fvu": 1.0},
"better": {"explained_variance": "higher"}}``

``samples`` counts the activations that training consumed on all ranks, ``seconds`` the time since training began,
validations included; both go on counting over a restart. A value that is not finite is written as null. ``better``
names the metrics of which more or less is better. Where SAEs have several sizes, ``sizes`` says which policies are of
one size, and what they are there: ``{"x8_frozen_decoder": ["x8", "frozen_decoder"]}``. What the last line was averaged
over is in ``items.safetensors``.
"""

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from typing_extensions import override

from sae_lightning.evaluators.base import Evaluator, Scores
from sae_lightning.run_folder import run_folder
from sae_lightning.saes.module import SAEModule
from sae_lightning.verdict.items import write_items

FILE_NAME = "metrics.jsonl"


class MetricsFile(Callback):
    """Append one line to ``metrics.jsonl`` of the run folder at each validation and after a test."""

    def __init__(self) -> None:
        self._samples = 0
        self._seconds_before_restart = 0.0
        self._started: float | None = None

    @property
    def seconds(self) -> float:
        """Time since training began, without the time between an interruption and the restart."""
        running = 0.0 if self._started is None else time.monotonic() - self._started
        return self._seconds_before_restart + running

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.monotonic()
        run = run_folder(trainer)
        if run is not None and trainer.is_global_zero:
            forget_after(run / FILE_NAME, trainer.global_step)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Tensor, batch_idx: int
    ) -> None:
        self._samples += len(batch) * trainer.world_size

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Lightning keeps the last value of each name: what this validation does not measure must not be in its line.
        for name in [name for name in trainer.callback_metrics if name.startswith("val/")]:
            del trainer.callback_metrics[name]

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._write(trainer, pl_module, "val")

    @override
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, pl_module, "test")

    def _write(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        run = run_folder(trainer)
        if run is None or not trainer.is_global_zero:
            return
        counters = {"step": trainer.global_step, "samples": self._samples, "seconds": round(self.seconds, 3)}
        measured = {
            metric: scores
            for callback in trainer.callbacks  # type: ignore[attr-defined]
            if isinstance(callback, Evaluator)
            for metric, scores in callback.measured.items()
        }
        values = collect(trainer.callback_metrics, stage)
        nulls = getattr(trainer.datamodule, "null_parts", ())  # type: ignore[attr-defined]
        better = {name: way for name in values["metrics"] if (way := _better(measured, name, nulls))}
        sizes = {"sizes": pl_module.sizes} if isinstance(pl_module, SAEModule) and pl_module.sizes else {}
        line = json.dumps(counters | values | {"better": better} | sizes, allow_nan=False)
        run.mkdir(parents=True, exist_ok=True)
        write_items(run, trainer.global_step, measured)
        with (run / FILE_NAME).open("a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())  # a line that was announced survives the machine's failure

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"samples": self._samples, "seconds": self.seconds}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._samples = state_dict["samples"]
        self._seconds_before_restart = state_dict["seconds"]


def collect(logged: Mapping[str, Tensor], stage: str) -> dict[str, dict[str, Any]]:
    """Sort logged values by metric, policy and seed.

    Args:
        logged: values by name; only ``<stage>/<metric>/<policy>/<seed>`` and ``<stage>/<metric>/floor`` are taken.
        stage: ``val`` or ``test``.

    Returns:
        ``{"metrics": {metric: {policy: {seed: value}}}, "floors": {metric: value}}``.
    """
    metrics: dict[str, dict[str, dict[str, float | None]]] = {}
    floors: dict[str, float | None] = {}
    for name, tensor in logged.items():
        number = float(tensor)
        value = number if math.isfinite(number) else None
        match name.split("/"):
            case [first, metric, policy, seed] if first == stage:
                metrics.setdefault(metric, {}).setdefault(policy, {})[seed] = value
            case [first, metric, "floor"] if first == stage:
                floors[metric] = value
    return {"metrics": metrics, "floors": floors}


def _better(measured: Mapping[str, Scores], chart: str, nulls: Sequence[str]) -> str | None:
    """Which way of a chart is better: that of its metric; on null data it does not matter who does better."""
    metric, _, part = chart.partition("@")
    return measured[metric].better if metric in measured and part not in nulls else None


def forget_after(path: Path, step: int) -> None:
    """Drop the lines that a run wrote after the checkpoint from which it now goes on; it will write them again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        with suppress(json.JSONDecodeError):  # the last may have been cut off
            if json.loads(line)["step"] <= step:
                kept.append(line)
    new = path.with_suffix(".tmp")
    new.write_text("".join(line + "\n" for line in kept))
    new.replace(path)
