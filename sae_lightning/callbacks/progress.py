"""The progress bar: how far a run is, how fast, how long it still takes, and what it has learned so far."""

import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor
from typing_extensions import override

from sae_lightning.callbacks.speed import Speed, unit_of
from sae_lightning.checks import check_whole
from sae_lightning.members import TRAINED, LoggedName, Member
from sae_lightning.moving_line import LINE, duration
from sae_lightning.saes.module import SAEModule
from sae_lightning.trainer import callbacks_of

_SHOWN = {"loss": "loss", "explained_variance": "explained", "l0": "l0"}
"""What is shown of the training, by the name under which it is logged."""


class ThroughputBar(ProgressBar):
    """Show in one line how far training is, its speed, the time left, and loss, explained variance and l0.

    The values are those of the last logged batch, of the trained SAEs of a panel their mean. Off a terminal a line is
    printed every half minute.

    Args:
        refresh_rate: steps between two updates of the line, which moves five times a second at most; 0 shows nothing.
            Default: 1.
    """

    def __init__(self, refresh_rate: int = 1) -> None:
        check_whole(0, refresh_rate=refresh_rate, hint="where 0 shows no bar")
        super().__init__()
        self.refresh_rate = refresh_rate
        self._is_enabled = refresh_rate > 0

    @override
    def disable(self) -> None:
        """Show nothing on this rank."""
        self._is_enabled = False

    @override
    def enable(self) -> None:
        """Show the bar again."""
        self._is_enabled = True

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        if self._is_enabled and batch_idx % self.refresh_rate == 0 and LINE.is_due:
            steps = _known(trainer.estimated_stepping_batches)
            LINE.show("" if steps else "training", trainer.global_step, steps, self._text(trainer, pl_module))

    @override
    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        if self._is_enabled:
            what = "validating" if trainer.state.fn == TrainerFn.FITTING else "measuring"
            LINE.show(what, batch_idx + 1, _known(sum(trainer.num_val_batches)))

    @override
    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        if self._is_enabled:
            LINE.show("measuring", batch_idx + 1, _known(sum(trainer.num_test_batches)))

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        LINE.clear()

    def _text(self, trainer: Trainer, module: LightningModule) -> str:
        words = []
        for speed in callbacks_of(trainer):
            if isinstance(speed, Speed):
                if (rate := speed.per_second) is not None:
                    words.append(f"{rate:,.0f} {unit_of(trainer)}/s")
                if (seconds := speed.seconds_left(trainer)) is not None:
                    words.append(f"{duration(seconds)} left")
        values = training_values(trainer.callback_metrics, module) if isinstance(module, SAEModule) else {}
        return "  ".join([*words, *(f"{_SHOWN[name]} {value:.3g}" for name, value in values.items())])


def _known(n: float | int) -> int:
    """Return a number of steps or batches; 0 where Lightning says that it does not end."""
    return int(n) if 0 < n < math.inf else 0


def training_values(logged: Mapping[str, Tensor], module: SAEModule) -> dict[str, float]:
    """Return what is shown of the training: the mean over the SAEs that are trained freely, or over all.

    Args:
        logged: values by the names under which they were logged.
        module: whose members they are of.
    """
    members = list(module.all_trained_members)
    free = [member for member in members if _is_free(member, module)] or members
    values: dict[str, float] = {}
    for name in _SHOWN:
        names = (str(LoggedName.of("train", name, member)) for member in free)
        if known := [float(logged[one]) for one in names if one in logged]:
            values[name] = fmean(known)
    return values


def _is_free(member: Member, module: SAEModule) -> bool:
    """Return whether a member is what baselines are compared with; each size of a family has one."""
    return module.sizes.get(member.policy, ("", member.policy))[1] == TRAINED
