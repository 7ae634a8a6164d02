"""Stop a run on Ctrl-C, SIGTERM or failing data, so that the resumed run is bit-identical to an uninterrupted one."""

import signal
import sys
import threading
from types import FrameType
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn
from typing_extensions import override

from sae_lightning.callbacks.checkpoints import validation_is_due
from sae_lightning.distributed import Ranks, all_gather_int
from sae_lightning.evaluators.base import datamodule_of
from sae_lightning.trainer import run_folder

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt(Checkpoint):
    """Finish the current step, write ``checkpoints/interrupted.ckpt``, print how to resume, and exit.

    The exit code is 128 + signal, or 1 if there is no next batch (text that can no longer be read, or activations that
    are not finite). A signal only sets a flag, which is read between two optimizer steps, so that no checkpoint is
    written in the middle of a step. A second signal stops at once and leaves no checkpoint. Where nothing is trained
    there is no step to wait for, and SIGTERM ends the process. Ranks decide together. (The class is a ``Checkpoint``
    because Lightning calls those last, when every other callback is done with the step.)
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._code = 0
        self._handlers_before: dict[int, Any] = {}

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._signal, self._code = None, 0
        if threading.current_thread() is threading.main_thread():
            self._handlers_before = {number: signal.signal(number, self._note) for number in SIGNALS}

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Lightning's waits for a training step, and restores it

    on_test_start = on_validation_start

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            self._restore_handlers()
            raise KeyboardInterrupt
        self._signal = number
        sys.stderr.write("\nstopping after this step; once more stops at once, without a checkpoint\n")

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if not between_steps or trainer.is_last_batch:
            return
        code = 0 if self._signal is None else 128 + self._signal
        try:
            if (datamodule := datamodule_of(trainer)) is not None:
                datamodule.prepare_batch()
        except Exception as error:
            sys.stderr.write(f"\nrank {trainer.global_rank}: {error}\n")
            code = code or 1
        self._code = max(all_gather_int(code, ranks=Ranks.ALL))  # a signal, or failing data, may reach only some ranks
        if not validation_is_due(trainer):
            self._stop(trainer)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop(trainer)

    def _stop(self, trainer: Trainer) -> None:
        if not self._code:
            return
        run = run_folder(trainer)
        if run is not None:
            path = run / "checkpoints" / "interrupted.ckpt"
            trainer.save_checkpoint(path, weights_only=False)
            if trainer.is_global_zero:
                sys.stderr.write(
                    f"stopped at step {trainer.global_step}; resume with\n"
                    f"  sae fit --config {run / 'config.yaml'} --ckpt_path {path}\n"
                )
        raise SystemExit(self._code)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore_handlers()

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)
        self._handlers_before = {}
