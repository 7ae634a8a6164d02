"""`Evaluator`: a question asked at validation and test, of every member of a panel, with its floor.

An evaluator logs `val/<metric>/<member>` for each member and `val/<metric>/floor`, the score of an SAE that does
nothing (no latent fires, it answers with the mean of the data), or of chance. Where members read activations of
several hooks, each has charts of its own: `val/<metric>@<hook>/<policy>/<seed>`. In `sae test` the names begin with
`test/`. Evaluators change no parameter and draw nothing from the global random state, so training is the same bits with
and without them.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from sae_lightning.distributed import all_gather_object, rank, world_size
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.module import SAEModule, Step, chart, curve, part_of

T = TypeVar("T")
M = TypeVar("M")


@dataclass(frozen=True)
class Items:
    """What a metric is made of: for each member `sum(numerators) / sum(denominators)` over evaluation items.

    A mean over items has denominators of 1, a ratio of sums (explained variance, loss recovered) those that it has.
    Items are what intervals are computed from where there are few seeds, so they should be independent: documents or
    batches of text and not tokens.

    Args:
        numerators: [n_items] of each member.
        denominators: [n_items] of each member.
        paired: item i is the same question to every member, with one denominator; False where each has its own items.
    """

    numerators: Mapping[str, Tensor]
    denominators: Mapping[str, Tensor]
    paired: bool = True

    @classmethod
    def mean(cls, values: Mapping[str, Tensor], paired: bool = True) -> "Items":
        """Items whose mean is the metric."""
        return cls(values, {member: torch.ones_like(of) for member, of in values.items()}, paired)


@dataclass(frozen=True)
class Scores:
    """One metric: a value for each member, reduced over ranks, and the floor.

    Args:
        members: values by name. A reference that is no SAE stands among them as `<reference>/0`, where there are
            several parts as `<part>/<reference>/0`.
        floor: the score of an SAE that does nothing, or of chance; a mapping with one for each part where they differ,
            None where another evaluator logs it.
        better: which way is better; None for what is no matter of better or worse, and has no verdict.
        items: what the values are made of, equal on every rank, where that can be told.
    """

    members: Mapping[str, Tensor | float]
    floor: Tensor | float | Mapping[str, Any] | None
    better: Literal["higher", "lower"] | None = None
    items: Items | None = None


class Evaluator(Callback, ABC):
    """Asks its question every n-th validation, at the last one, and at test.

    A subclass says what it wants of each batch (`update`) and what follows from it (`scores`). It keeps each argument
    under the argument's name, by which a checkpoint tells two evaluators of one class apart.

    Args:
        every_n_validations: the last validation counts whatever its number, where the end can be foreseen; 0 for that
            one alone.

    Attributes:
        measured: what the last validation or test found, by metric; empty where it did not count.
    """

    def __init__(self, every_n_validations: int = 1) -> None:
        if every_n_validations < 0:
            raise ValueError(f"every_n_validations={every_n_validations}: expected 1 or more, or 0 for the last alone")
        self.every_n_validations = every_n_validations
        self.measured: Mapping[str, Scores] = {}
        self._n_validations = 0
        self._is_active = False

    # For subclasses
    # ----------------------------------------------------------------------------------------------------

    def start(self, module: SAEModule) -> None:
        """Makes fresh metrics on the module's device."""

    def update(self, steps: Mapping[str, Step]) -> None:
        """Takes in one batch, by member."""

    @staticmethod
    def asked(trainer: Trainer, module: SAEModule) -> dict[str, SparseAutoencoder]:
        """The members whose activations depend on what the model reads; the others read noise (`noise_parts`)."""
        noise = getattr(trainer.datamodule, "noise_parts", ())  # type: ignore[attr-defined]
        return {member: sae for member, sae in module.members.items() if part_of(member) not in noise}

    @abstractmethod
    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> Mapping[str, Scores]:
        """Metrics by name at the end of the epoch; `stage` is `val` or `test`."""

    # Hooks
    # -------------------------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks that there is something to evaluate."""
        if not isinstance(pl_module, SAEModule):
            raise ValueError(f"{type(self).__name__}: expected an SAE or a SanityPanel, got {type(pl_module).__name__}")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decides whether this validation counts."""
        if trainer.sanity_checking:
            self._is_active = False
            return
        self._is_active = True
        if trainer.state.fn == TrainerFn.FITTING:
            self._n_validations += 1
            every = self.every_n_validations
            self._is_active = (every > 0 and self._n_validations % every == 0) or is_last_validation(trainer)
        self._start_if_active(pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A test always counts."""
        self._is_active = True
        self._start_if_active(pl_module)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Takes in what the step of the module returned."""
        if self._is_active:
            self.update(outputs)

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs `val/...`."""
        self._log(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs `test/...`."""
        self._log(trainer, pl_module, "test")

    def _start_if_active(self, pl_module: LightningModule) -> None:
        self.measured = {}
        if self._is_active:
            assert isinstance(pl_module, SAEModule)
            self.start(pl_module)

    def _log(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not self._is_active:
            return
        assert isinstance(pl_module, SAEModule)
        parts = {part_of(member) for member in pl_module.members}
        self.measured = self.scores(trainer, pl_module, stage)
        for metric, scores in self.measured.items():
            values = {f"{chart(metric, part_of(of))}/{curve(of)}": value for of, value in scores.members.items()}
            if scores.floor is not None:
                floors = scores.floor if isinstance(scores.floor, Mapping) else dict.fromkeys(parts, scores.floor)
                values |= {f"{chart(metric, part)}/floor": floor for part, floor in floors.items()}
            for name, value in values.items():
                # Every rank has the same value already; sync_dist keeps Lightning from warning that it might not.
                pl_module.log(f"{stage}/{name}", value, sync_dist=True)

    # State
    # -------------------------------------------------------------------------------------------------------------

    @property
    def state_key(self) -> str:
        """Class and arguments."""
        return self._generate_state_key(**{name: getattr(self, name) for name in signature(type(self)).parameters})

    def state_dict(self) -> dict[str, int]:
        """How many validations there were."""
        return {"n_validations": self._n_validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting validations."""
        self._n_validations = state_dict["n_validations"]


def share_members(members: Mapping[str, M], measure: Callable[[str, M], T]) -> dict[str, T]:
    """What `measure(name, member)` gives for every member, each measured on one rank and known to all after that.

    For costly questions that need no batches of the stream. Values are pickled: plain Python and CPU tensors.
    """
    own = list(members)[rank() :: world_size()]
    gathered = all_gather_object({member: measure(member, members[member]) for member in own})
    found = {member: value for part in gathered for member, value in part.items()}
    return {member: found[member] for member in members}


def is_last_validation(trainer: Trainer) -> bool:
    """Whether training will end before another validation; False where the end cannot be foreseen.

    It cannot with a limit of time or early stopping. With epochs that the interval does not divide the answer may be
    True for one validation too many, never for one too few.
    """
    steps = trainer.estimated_stepping_batches
    interval = trainer.val_check_batch
    if steps < 0 or interval is None:
        return False
    remaining = (steps - trainer.global_step) * trainer.accumulate_grad_batches
    between = interval * (trainer.check_val_every_n_epoch or 1)
    return remaining < between if math.isfinite(between) else remaining <= 0


def log_histogram(trainer: Trainer, name: str, member: str, values: Tensor) -> None:
    """Gives the distribution of values of one member to every logger that can draw it.

    Args:
        trainer: whose loggers.
        name: of the chart, `<stage>/<what>`.
        member: `<policy>/<seed>`.
        values: of any shape; nothing is drawn of an empty tensor.
    """
    if not trainer.is_global_zero or values.numel() == 0:
        return
    values = values.detach().float().cpu()
    name, member = chart(name, part_of(member)), curve(member)
    for logger in trainer.loggers:
        experiment = getattr(logger, "experiment", None)
        if hasattr(logger, "log_histogram"):
            logger.log_histogram(name, member, values, trainer.global_step)
        elif experiment is not None and hasattr(experiment, "add_histogram"):
            experiment.add_histogram(f"{name}/{member}", values, trainer.global_step)


def log_image(trainer: Trainer, name: str, member: str, image: np.ndarray) -> None:
    """Gives a picture of one member, or of all, to every logger that can show it.

    Args:
        trainer: whose loggers.
        name: of the chart, `<stage>/<what>`.
        member: `<policy>/<seed>`, with a part before it where there are several; `<part>/` or nothing for all members.
        image: [height, width, 3] from 0 to 255.
    """
    if not trainer.is_global_zero:
        return
    part, _, own = member.rpartition("/") if member.endswith("/") else (part_of(member), "", curve(member))
    name = chart(name, part)
    for logger in trainer.loggers:
        experiment = getattr(logger, "experiment", None)
        if hasattr(logger, "log_image"):
            logger.log_image(name, own or None, image, trainer.global_step)
        elif experiment is not None and hasattr(experiment, "add_image"):
            experiment.add_image(f"{name}/{own}".rstrip("/"), image, trainer.global_step, dataformats="HWC")
