"""The progress bar: the progress of training, and its speed in samples or tokens per second."""

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm, convert_inf
from lightning.pytorch.utilities.types import STEP_OUTPUT
from typing_extensions import override

from sae_lightning.checks import check_whole
from sae_lightning.distributed import world_size
from sae_lightning.evaluators.base import datamodule_of


class ThroughputBar(TQDMProgressBar):
    """Show progress and speed in the unit of the data, samples or tokens, without the time of validations.

    If the output is not a terminal, a line is printed every tenth of an epoch instead of a moving bar.

    Args:
        refresh_rate: steps between two updates of the bar; 0 shows nothing. Default: 10.
    """

    def __init__(self, refresh_rate: int = 10) -> None:
        check_whole(0, refresh_rate=refresh_rate, hint="where 0 shows no bar")
        super().__init__(refresh_rate=refresh_rate)
        self._moving = sys.stdout.isatty()
        self._started = 0.0
        self._paused = 0.0
        self._rows = 0

    @property
    @override
    def is_disabled(self) -> bool:
        return super().is_disabled or not self._moving

    @override
    def init_train_tqdm(self) -> Tqdm:
        bar = super().init_train_tqdm()
        bar.total = convert_inf(self.total_train_batches)  # a run resumed in mid-epoch has no epoch start
        bar.unit = " " + self._unit()
        bar.unit_scale = self._rows_per_step()
        return bar

    @override
    def on_train_start(self, *args: Any) -> None:
        super().on_train_start(*args)
        self._started, self._rows = time.monotonic(), 0

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self._rows += self._rows_per_step()
        if not self._moving and self.is_enabled:
            self._print_tenth(batch_idx)

    def _print_tenth(self, batch_idx: int) -> None:
        total, done = self.total_train_batches, batch_idx + 1
        if done * 10 // total == batch_idx * 10 // total:
            return
        unit, speed = self._unit(), self._rows / (time.monotonic() - self._started)
        sys.stdout.write(f"{done / total:4.0%}  {done * self._rows_per_step():,} {unit}  {speed:,.0f} {unit}/s\n")
        sys.stdout.flush()

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_start(trainer, pl_module)
        self._paused = time.monotonic()

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pause = time.monotonic() - self._paused
        self._started += pause
        if self._train_progress_bar is not None and not self.train_progress_bar.disable:
            self.train_progress_bar.start_t += pause
        super().on_validation_end(trainer, pl_module)

    def _unit(self) -> str:
        datamodule = datamodule_of(self.trainer)
        return "samples" if datamodule is None else datamodule.unit

    def _rows_per_step(self) -> int:
        datamodule = datamodule_of(self.trainer)
        return (1 if datamodule is None else datamodule.batch_size) * world_size()
