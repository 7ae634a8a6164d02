"""Checkpoints to resume a run from: at each validation, every few minutes between validations, and at the end."""

import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from typing_extensions import override

from sae_lightning.checks import check_at_least
from sae_lightning.distributed import Ranks, all_gather_int
from sae_lightning.trainer import run_folder
from sae_lightning.whole_files import whole_file

_STEPS_BETWEEN_CHECKS = 10
"""Steps between two looks at the clock, after which all ranks must agree whether to save."""


def validation_is_due(trainer: Trainer) -> bool:
    """Return whether a validation follows this batch; a run resumed from a checkpoint saved now would skip it."""
    loop = trainer.fit_loop
    return loop.epoch_loop._should_check_val_fx(loop._data_fetcher)  # type: ignore[arg-type]


class Checkpoints(ModelCheckpoint):
    """Keep the latest state as ``checkpoints/step=N.ckpt``, and ``last.ckpt`` as a link to it.

    The state is saved at each validation, at the end, and in between whenever `minutes` have passed since the last.

    Args:
        minutes: most minutes of training, roughly, that a killed run loses. Default: 15.
    """

    def __init__(self, minutes: float = 15.0) -> None:
        super().__init__(filename="{step}", save_top_k=1, save_last="link")
        check_at_least(0, minutes=minutes)
        self.minutes = minutes
        self._saved_at = 0.0

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved_at = time.monotonic()

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if not between_steps or trainer.global_step % _STEPS_BETWEEN_CHECKS or validation_is_due(trainer):
            return
        is_time = time.monotonic() - self._saved_at >= 60 * self.minutes
        if all_gather_int(int(is_time), ranks=Ranks.ALL)[0]:  # clocks differ, so rank 0 decides
            self._save(trainer)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save when an evaluator fails, so that no training is lost."""
        # With several ranks the others may not have failed, and all of them must take part in a checkpoint.
        if not (trainer.validating and trainer.state.fn == TrainerFn.FITTING and isinstance(exception, Exception)):
            return
        if trainer.world_size == 1 and (run := run_folder(trainer)) is not None:
            self._save(trainer)
            sys.stderr.write(
                f"a validation failed after step {trainer.global_step}; the training is kept, validate it with\n"
                f"  sae validate --config {run / 'config.yaml'} --ckpt_path {self.last_model_path}\n"
            )

    def _save(self, trainer: Trainer) -> None:
        if not self._should_skip_saving_checkpoint(trainer):  # Lightning skips a step that is saved already
            candidates = self._monitor_candidates(trainer)
            self._save_topk_checkpoint(trainer, candidates)
            self._save_last_checkpoint(trainer, candidates)

    @override
    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        try:
            super()._save_checkpoint(trainer, filepath)
        except ValueError as error:
            kept = self.last_model_path  # that of the best is set before it is written
            if not Path(kept).is_file():
                raise
            raise ValueError(f"{error}. The last good checkpoint is {kept}") from error
        self._saved_at = time.monotonic()

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict.get("dirpath") == self.dirpath:  # this run has no use for another run's list of files
            super().load_state_dict(state_dict)


class WholeFiles(TorchCheckpointIO):
    """Write a local checkpoint under another name, and rename it when it is complete and on the disk.

    Lightning's own class holds the file twice in memory, and moves it from the system's folder for temporary files,
    which copies it if that folder is on another disk.
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with whole_file(Path(path)) as part, part.open("wb") as file:
            torch.save(checkpoint, file)
