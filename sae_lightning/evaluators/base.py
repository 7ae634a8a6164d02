"""`Evaluator`: asks every member of a panel a question at validation and test, and gives each answer its floor.

An evaluator declares its metrics: what each is called, what it asks, which way is better (`Metric`). It logs
`val/<metric>/<member>` for each member and `val/<metric>/floor`, the score of an SAE that does nothing (no latent
fires, it answers with the mean of the data), or of chance. Where members read activations of several hooks, each has
charts of its own: `val/<metric>@<hook>/<policy>/<seed>`. In `sae test` the names begin with `test/`. Evaluators change
no parameter and draw nothing from the global random state, so training is bit-identical with and without them.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any, ClassVar, TypeVar

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from sae_lightning.checks import check_whole
from sae_lightning.datamodules.base import ActivationDataModule
from sae_lightning.distributed import Ranks, all_gather_object, rank, world_size
from sae_lightning.evaluators.latent_scores import LatentScores, join_latents
from sae_lightning.evaluators.scores import Scores, join_ranks
from sae_lightning.latent_mesh import LATENTS
from sae_lightning.members import LoggedName, Member, Tag, by_part
from sae_lightning.metric import Metric
from sae_lightning.moving_line import LINE
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.module import SAEModule
from sae_lightning.saes.step import Step
from sae_lightning.saes.transcoder import refuse_crosscoders, refuse_transcoders
from sae_lightning.trainer import any_datamodule_of

T = TypeVar("T")
M = TypeVar("M")
OTHERS = Ranks.OTHER_MEMBERS


class Evaluator(Callback, ABC):
    """Ask a question every n-th validation, at the last one, and at test.

    A subclass takes what it needs from each batch (`update`) and computes its metrics in the end (`scores`). It keeps
    each argument under the argument's name, by which a checkpoint tells two evaluators of one class apart.

    Args:
        every_n_validations: the last validation counts whatever its number, where the end can be foreseen; 0 for that
            one alone.

    Attributes:
        measured: the scores of the last validation or test by the name of the metric; empty where it did not count.
        latent_scores: what it measured of single latents; `scores` appends to it, once for each draw.
    """

    declares: ClassVar[tuple[Metric, ...]] = ()
    """The metrics that it can measure; where a name has a part that depends on arguments or data, an example of it."""
    compares_members: ClassVar[bool] = False
    """Whether it needs all members in one process."""

    def __init__(self, every_n_validations: int = 1) -> None:
        check_whole(0, every_n_validations=every_n_validations, hint="where 0 is the last alone")
        self.every_n_validations = every_n_validations
        self.measured: Mapping[str, Scores] = {}
        self.latent_scores: list[LatentScores] = []
        self._n_validations = 0
        self._is_active = False
        self._told: set[str] = set()

    takes_split: ClassVar[bool] = False
    """Whether it can measure SAEs whose latents lie on several ranks: of weights it sees those of one rank."""
    takes_transcoders: ClassVar[bool] = False
    """Whether it knows that a transcoder answers at another place than it reads."""
    takes_crosscoders: ClassVar[bool] = False
    """Whether it knows that a crosscoder reads and answers several parts side by side."""

    # For subclasses
    # ----------------------------------------------------------------------------------------------------

    def start(self, module: SAEModule) -> None:
        """Make fresh metrics on the module's device."""

    def update(self, steps: Mapping[Member, Step]) -> None:
        """Take in one batch."""

    @abstractmethod
    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> Iterable[Scores]:
        """Return the scores of each metric at the end of the epoch; `stage` is `val` or `test`."""

    # Hooks
    # -------------------------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there is something to evaluate."""
        if not isinstance(pl_module, SAEModule):
            raise ValueError(f"{type(self).__name__}: expected an SAE or a SanityPanel, got {type(pl_module).__name__}")
        saes = pl_module.all_members.values()
        if not self.takes_transcoders:
            refuse_transcoders(saes, type(self).__name__)
        if not self.takes_crosscoders:
            refuse_crosscoders(saes, type(self).__name__)
        if self.compares_members and world_size(OTHERS) > 1:
            raise ValueError(
                f"{type(self).__name__} compares members with each other, and with trainer.strategy=members they are "
                "on different devices: leave it out, and ask it of the checkpoint on one process, with sae validate "
                "--trainer.strategy auto --trainer.devices 1"
            )
        if not self.takes_split and pl_module.n_latent_ranks > 1:
            raise ValueError(
                f"trainer.strategy={LATENTS}: {type(self).__name__} reads whole SAEs, of which each rank has a part. "
                "Leave it out, and ask it of the run's checkpoint on one process, with sae validate"
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide whether this validation counts."""
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
        """Start: a test always counts."""
        self._is_active = True
        self._start_if_active(pl_module)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Take in what the step of the module returned."""
        if self._is_active:
            self.update(outputs)

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log `val/...`."""
        self._log(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log `test/...`."""
        self._log(trainer, pl_module, "test")

    def _start_if_active(self, pl_module: LightningModule) -> None:
        self.measured, self.latent_scores = {}, []
        if self._is_active:
            assert isinstance(pl_module, SAEModule)
            self.start(pl_module)

    def _log(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not self._is_active:
            return
        assert isinstance(pl_module, SAEModule)
        LINE.show(f"measuring {type(self).__name__}")
        measured = join_ranks(list(self.scores(trainer, pl_module, stage)), list(pl_module.all_members))
        self.measured = {scores.metric.name: scores for scores in measured}
        self.latent_scores = join_latents(self.latent_scores)
        draw_waiting(trainer)
        for name, scores in self.measured.items():
            values = {LoggedName.of(stage, name, member): value for member, value in scores.members.items()}
            floors = scores.floors_by_part(pl_module.all_members)
            values |= {LoggedName(stage, Tag(name, part), None): floor for part, floor in floors.items()}
            for logged_name, value in values.items():
                # Every rank has the same value already; sync_dist keeps Lightning from warning that it might not.
                pl_module.log(str(logged_name), value, sync_dist=True)
        self._warn_of_undefined()

    def _warn_of_undefined(self) -> None:
        """Say once of each metric that some members have no value, and why."""
        new = [each for name, each in self.measured.items() if name not in self._told and each.not_finite()]
        if not new:
            return
        self._told |= {scores.metric.name for scores in new}
        first, *others = new
        without = first.not_finite()
        whose = "" if len(without) == len(first.members) else f" for {', '.join(map(str, without))}"
        also = f" (and so are {', '.join(scores.metric.name for scores in others)})" if others else ""
        reasons = "; ".join(dict.fromkeys(scores.undefined for scores in new))
        rank_zero_warn(f"{first.metric.name} is withheld (nan){whose}{also}: {reasons}")

    # State
    # -------------------------------------------------------------------------------------------------------------

    @property
    def state_key(self) -> str:
        """Key of its state in a checkpoint: class and arguments."""
        return self._generate_state_key(**{name: getattr(self, name) for name in signature(type(self)).parameters})

    def state_dict(self) -> dict[str, int]:
        """Return how many validations there were."""
        return {"n_validations": self._n_validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume counting validations."""
        self._n_validations = state_dict["n_validations"]


def evaluated_members(trainer: Trainer, module: SAEModule) -> dict[Member, SparseAutoencoder]:
    """Return the members whose activations depend on what the model reads; the others read noise (`noise_parts`)."""
    datamodule = datamodule_of(trainer)
    noise = datamodule.noise_parts if datamodule is not None else ()
    return {member: sae for member, sae in module.members.items() if member.part not in noise}


def evaluated_parts(trainer: Trainer, module: SAEModule) -> dict[str, Member]:
    """Return a member for each part of the activations that depends on what the model reads, the same on all ranks."""
    datamodule = datamodule_of(trainer)
    noise = datamodule.noise_parts if datamodule is not None else ()
    return {part: members[0] for part, members in by_part(module.all_members).items() if part not in noise}


def datamodule_of(trainer: Trainer) -> ActivationDataModule | None:
    """Return the datamodule of the trainer; None where it is none of this library, or there are plain loaders."""
    datamodule = any_datamodule_of(trainer)
    return datamodule if isinstance(datamodule, ActivationDataModule) else None


def data_name(trainer: Trainer) -> str:
    """Return the name of the class of the trainer's data, for messages."""
    return type(any_datamodule_of(trainer)).__name__


def evaluate_across_ranks(members: Mapping[Member, M], measure: Callable[[Member, M], T]) -> dict[Member, T]:
    """Return `measure(member, value)` of every member; each is measured on one rank, and every rank gets all results.

    For costly questions that need no batches of the stream. Results are pickled: plain Python and CPU tensors.
    """
    own, measured = list(members)[rank() :: world_size()], dict[Member, T]()
    for member in own:
        LINE.show("measuring", len(measured), len(own), str(member))
        measured[member] = measure(member, members[member])
    gathered = all_gather_object(measured)
    results = {member: result for results_of_rank in gathered for member, result in results_of_rank.items()}
    return {member: results[member] for member in members}


def is_last_validation(trainer: Trainer) -> bool:
    """Return whether training will end before another validation; False where the end cannot be foreseen.

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


def log_histogram(trainer: Trainer, stage: str, name: str, member: Member, values: Tensor) -> None:
    """Give the distribution of values of one member to every logger that can draw it.

    Args:
        trainer: whose loggers.
        stage: `val` or `test`.
        name: what the values are.
        member: whose.
        values: of any shape; nothing is drawn of an empty tensor.
    """
    if values.numel() and (trainer.is_global_zero or world_size(OTHERS) > 1):
        logged_name = LoggedName.of(stage, name, member)
        _draw(trainer, _Histogram(logged_name, values.detach().float().cpu()))


def log_image(trainer: Trainer, stage: str, tag: Tag, member: Member | None, image: np.ndarray) -> None:
    """Give an image of one member, or of all that read one part, to every logger that can show it.

    Args:
        trainer: whose loggers.
        stage: `val` or `test`.
        tag: what it shows, of which part.
        member: whose; None for an image of all.
        image: [height, width, 3] from 0 to 255.
    """
    if trainer.is_global_zero or world_size(OTHERS) > 1:
        _draw(trainer, _Image(stage, tag, member, image))


@dataclass(frozen=True)
class _Histogram:
    """The distribution of values of one member."""

    name: LoggedName
    values: Tensor

    def draw(self, trainer: Trainer) -> None:
        """Give it to the loggers."""
        for logger in trainer.loggers:
            experiment = getattr(logger, "experiment", None)
            if isinstance(logger, WandbLogger):
                from wandb import Histogram

                values = self.values[self.values.isfinite()].tolist()
                logger.log_metrics({str(self.name): Histogram(values)}, trainer.global_step)
            elif hasattr(logger, "log_histogram"):
                logger.log_histogram(self.name, self.values, trainer.global_step)
            elif experiment is not None and hasattr(experiment, "add_histogram"):
                experiment.add_histogram(str(self.name), self.values, trainer.global_step)


@dataclass(frozen=True)
class _Image:
    """An image of one member, or of all that read one part."""

    stage: str
    tag: Tag
    member: Member | None
    image: np.ndarray

    def draw(self, trainer: Trainer) -> None:
        """Give it to the loggers."""
        chart = f"{self.stage}/{self.tag}"
        name = chart if self.member is None else str(LoggedName(self.stage, self.tag, self.member))
        for logger in trainer.loggers:
            experiment = getattr(logger, "experiment", None)
            if isinstance(logger, WandbLogger):
                logger.log_image(name, [self.image], trainer.global_step)
            elif hasattr(logger, "log_image"):
                logger.log_image(chart, self.member, self.image, trainer.global_step)
            elif experiment is not None and hasattr(experiment, "add_image"):
                experiment.add_image(name, self.image, trainer.global_step, dataformats="HWC")


_waiting: list[_Histogram | _Image] = []
"""What this rank has to draw of its members; the loggers are on the first rank."""


def _draw(trainer: Trainer, picture: _Histogram | _Image) -> None:
    if world_size(OTHERS) > 1:
        _waiting.append(picture)
    else:
        picture.draw(trainer)


def draw_waiting(trainer: Trainer) -> None:
    """Draw what ranks with different members have to draw; a collective call."""
    pictures = [picture for of_rank in all_gather_object(list(_waiting), OTHERS) for picture in of_rank]
    _waiting.clear()
    if trainer.is_global_zero:
        for picture in pictures:
            picture.draw(trainer)
