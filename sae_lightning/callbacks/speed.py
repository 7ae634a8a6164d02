"""How fast a run trains, and how long it still takes."""

import math
import time
from collections import deque
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from typing_extensions import override

from sae_lightning.evaluators.base import datamodule_of
from sae_lightning.trainer import log_interval_of

_SECONDS = 30.0
"""The speed is that of so many seconds: while the buffer grows a run is slower than afterwards."""
_FEW_STEPS, _FEW_SECONDS = 20, 5.0
"""After so many steps, or seconds, an estimate is worth something."""


class Speed(Callback):
    """Measure samples, or tokens, a second without the time of validations, and log them as `train/..._per_second`.

    The first step does not count: the buffer fills in it.
    """

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()
        self._paused = self._pause_began = self._validation = 0.0
        self._steps = 0

    @property
    def per_second(self) -> float | None:
        """Samples a second of all ranks; None before there are two steps."""
        return None if (seconds := self._seconds_per_step()) is None else self.rows_per_step / seconds

    @property
    def is_settled(self) -> bool:
        """Whether enough was measured to foresee the end."""
        return self._steps > _FEW_STEPS or (len(self._marks) > 1 and self._now() - self._marks[0][0] > _FEW_SECONDS)

    def seconds_left(self, trainer: Trainer) -> float | None:
        """Return the seconds that are left, with validations as long as the last one; None where nothing says it."""
        left, per_step = _steps_left(trainer), self._seconds_per_step()
        if per_step is None or left is None:
            return None
        return left * per_step + validations_left(trainer) * self._validation

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._marks.clear()
        self._paused = self._validation = 0.0
        self._steps = 0
        self.rows_per_step = trainer.accumulate_grad_batches * _rows_per_batch(trainer)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        self._steps += 1
        now = self._now()
        self._marks.append((now, self._steps))
        while len(self._marks) > 2 and now - self._marks[0][0] > _SECONDS:
            self._marks.popleft()
        if self._steps % log_interval_of(trainer) == 0 and (rate := self.per_second) is not None:
            for logger in trainer.loggers:
                logger.log_metrics({f"train/{unit_of(trainer)}_per_second": rate}, trainer.global_step)

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._pause_began = time.monotonic()

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._validation = time.monotonic() - self._pause_began
            self._paused += self._validation

    def _now(self) -> float:
        return time.monotonic() - self._paused

    def _seconds_per_step(self) -> float | None:
        if len(self._marks) < 2:
            return None
        (began, first), (ended, last) = self._marks[0], self._marks[-1]
        return max(ended - began, 1e-9) / (last - first)


def unit_of(trainer: Trainer) -> str:
    """Return what one activation is, such as tokens."""
    datamodule = datamodule_of(trainer)
    return "samples" if datamodule is None else datamodule.unit


def validations_left(trainer: Trainer) -> int:
    """Return how many validations are still to come; 0 where that cannot be foreseen."""
    if not (left := _steps_left(trainer)):
        return 0
    between = (trainer.val_check_batch or math.inf) / trainer.accumulate_grad_batches
    return math.ceil(left / between) if math.isfinite(between) else 1


def _steps_left(trainer: Trainer) -> int | None:
    steps = trainer.estimated_stepping_batches
    return int(steps) - trainer.global_step if 0 <= steps < math.inf else None


def _rows_per_batch(trainer: Trainer) -> int:
    """Return the activations in a batch of all ranks; of plain loaders a batch is all that is known."""
    datamodule = datamodule_of(trainer)
    return trainer.world_size if datamodule is None else datamodule.batch_size * datamodule.n_readers
