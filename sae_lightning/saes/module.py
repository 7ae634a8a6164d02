"""What training one SAE and training many side by side have in common: the LightningModule around `members`."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.optim import Optimizer

from sae_lightning.code import Code
from sae_lightning.members import LoggedName, Member
from sae_lightning.saes.inputs import activations_in, check_shape, non_finite
from sae_lightning.saes.optimizers import check_learning_rates, speed_up
from sae_lightning.saes.schedule import WarmupDecay
from sae_lightning.trainer import any_datamodule_of, check_trainer_numbers, log_interval_of, numbers_of

if TYPE_CHECKING:
    from sae_lightning.saes.base import SparseAutoencoder


@dataclass(frozen=True)
class Step:
    """What a validation step hands to the evaluators for one member.

    Args:
        x: [batch, d_in] raw activations.
        code: their latents.
        x_hat: [batch, d_in] reconstruction in the units of x.
    """

    x: Tensor
    code: Code
    x_hat: Tensor


@runtime_checkable
class CalibrationData(Protocol):
    """A datamodule from which members can take their start and their scale."""

    def calibration_sample(self, n: int) -> Tensor:
        """Return n activations [n, d_in] of the training data."""
        ...


@runtime_checkable
class ActivationData(CalibrationData, Protocol):
    """What members and the datamodules of this library know of each other."""

    @property
    def null_parts(self) -> tuple[str, ...]:
        """Names of the parts of the activations that are null versions of them."""
        ...

    def use_starting_dictionaries(self, members: "Mapping[Member, SparseAutoencoder]") -> None:
        """Compare the data with the directions that the members start from."""
        ...


@runtime_checkable
class SearchableData(Protocol):
    """A datamodule that can be searched for numbers that are not finite."""

    def find_non_finite(self) -> str | None:
        """Name the place of the first one; None if there is none, or if it cannot be found again."""
        ...


class SAEModule(LightningModule):
    """Train `members` on the same batches; each is independent of the others.

    The losses are added and go through one optimizer. Since members share no parameters, this gives each of them the
    gradients and (for any optimizer that works per parameter, as Adam) the steps that it would have alone.
    `trainer.gradient_clip_val` clips every member by its own norm.
    """

    optimizer: OptimizerCallable
    lr_scheduler: LRSchedulerCallable | None
    sizes: Mapping[str, tuple[str, str]] = {}
    """Where members have several sizes, the size of each policy and what it is among those of its size, `trained` or
    a baseline: `{"x8": ("x8", "trained"), "x8_frozen_decoder": ("x8", "frozen_decoder")}`; else empty."""

    @property
    def members(self) -> Mapping[Member, "SparseAutoencoder"]:
        """The SAEs."""
        raise NotImplementedError

    def activations_for(self, member: Member, activations: Tensor) -> Tensor:
        """Return what one member reads of activations [..., d_in]: all of them."""
        return activations

    @property
    def width(self) -> int:
        """Width of the activations, of which each member reads its part."""
        first: dict[str, int] = {member.part: sae.d_in for member, sae in self.members.items()}
        return sum(first.values())

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401
        """Return the reconstruction of raw activations [..., d_in] by each member; of a lone SAE see its own.

        Raises:
            ValueError: if x has another width, is not floating point or not finite.
        """
        check_shape(x, self.width)
        return {member: sae(self.activations_for(member, x)) for member, sae in self.members.items()}

    def setup(self, stage: str) -> None:
        """Initialise the members from data where their start or scale needs it.

        Raises:
            ValueError: if there are null versions of the activations, and no SAEs for each.
        """
        check_trainer_numbers(numbers_of(self.trainer))
        data = any_datamodule_of(self.trainer)
        nulls = data.null_parts if isinstance(data, ActivationData) else ()
        if not {*nulls} <= {member.part for member in self.members}:
            raise ValueError(
                f"data.nulls={', '.join(nulls)}: a lone SAE would read activations and nulls side by side, as one; "
                "take a SanityPanel, which trains SAEs for each, or leave out data.nulls"
            )
        if stage == "fit":
            if not all(sae.is_initialised for sae in self.members.values()):
                self.initialise_members()
            if isinstance(data, ActivationData):
                data.use_starting_dictionaries(self.members)

    def initialise_members(self) -> None:
        """Draw the calibration sample once and give every member its start."""
        n = max(sae.n_calibration_samples for sae in self.members.values())
        samples = None
        if n:
            # Rank 0's sample for everybody: an init from each rank's own data would start every rank elsewhere.
            data = any_datamodule_of(self.trainer)
            if not isinstance(data, CalibrationData):
                raise ValueError(
                    f"these SAEs start from {n} activations (scale_input, or an init that needs them), and "
                    f"{type(data).__name__} has no calibration_sample: take an ActivationDataModule, or call "
                    "initialise(seed, samples) of each SAE before training"
                )
            for sae in self.members.values():
                sae.init.prepare(data)
            samples = self.trainer.strategy.broadcast(data.calibration_sample(n))
        for member, sae in self.members.items():
            sae.initialise(sae.seed, None if samples is None else self.activations_for(member, samples))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:  # noqa: ANN401
        """Return the sum of the members' losses on one batch of raw activations, see `activations_in`."""
        batch = activations_in(batch, self.width)
        total = batch.new_zeros(())
        to_log = self.global_step % log_interval_of(self.trainer) == 0
        for member, sae in self.members.items():
            x = self.activations_for(member, batch)
            losses = sae.loss_terms(x, self.global_step)
            total = total + losses["loss"]
            # Elsewhere than on a CPU looking would mean waiting. A loss that has become NaN stays so: weights are, too.
            if (to_log or batch.device.type == "cpu") and not torch.isfinite(losses["loss"]):
                problem = sae.why_not_finite(x, losses["loss"]) + self._in_the_data()
                raise ValueError(f"{member} at step {self.global_step}: {problem}")
            if to_log:
                named = {str(LoggedName.of("train", key, member)): value.detach() for key, value in losses.items()}
                self.log_dict(named)
        return total

    def _in_the_data(self) -> str:
        """Name the first number in the training data that is not finite, where these can be searched."""
        data = any_datamodule_of(self.trainer)
        place = data.find_non_finite() if isinstance(data, SearchableData) else None
        return f". In the data: {place}" if place else ""

    def on_validation_start(self) -> None:
        """Refuse to measure members whose weights are not finite."""
        self._check_weights()

    def on_train_epoch_end(self) -> None:
        """Refuse to finish with members whose weights are not finite."""
        self._check_weights()

    def _check_weights(self) -> None:
        for member, sae in self.members.items():
            for name, weight in sae.named_parameters():
                if problem := non_finite(weight):
                    raise ValueError(
                        f"{member} after {self.global_step} steps: {name} {problem}: lower the learning rate, or set "
                        f"trainer.gradient_clip_val{self._in_the_data()}"
                    )

    def validation_step(self, batch: Any, batch_idx: int) -> dict[Member, Step]:  # type: ignore[override]  # noqa: ANN401
        """Reconstruct one batch of raw activations, see `activations_in`, for the evaluators."""
        steps: dict[Member, Step] = {}
        if self.trainer.sanity_checking:  # before training a BatchTopK has no threshold to evaluate with
            return steps
        batch = activations_in(batch, self.width)
        if problem := non_finite(batch):
            raise ValueError(f"held-out batch {batch_idx} {problem}{self._in_the_data()}")
        for member, sae in self.members.items():
            x = self.activations_for(member, batch)
            code = sae.encode(x)
            steps[member] = Step(x, code, sae.decode(code))
        return steps

    test_step = validation_step  # type: ignore[assignment]

    def configure_optimizers(self) -> Any:  # noqa: ANN401
        """Return one optimizer over everything that has gradients; freeze policies have taken theirs away by now."""
        optimizer = speed_up(self.optimizer([parameter for parameter in self.parameters() if parameter.requires_grad]))
        check_learning_rates(optimizer)
        if self.lr_scheduler is None:
            return optimizer
        scheduler = self.lr_scheduler(optimizer)
        if isinstance(scheduler, WarmupDecay):
            scheduler.span(int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Remove from decoder gradients what the unit norm would undo."""
        for sae in self.members.values():
            sae.project_decoder_gradient()

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip every member by its own norm: members must not slow each other down."""
        if not gradient_clip_val:
            return
        for sae in self.members.values():
            if gradient_clip_algorithm == "value":
                torch.nn.utils.clip_grad_value_(sae.parameters(), gradient_clip_val)
            else:
                _clip_by_norm(sae, gradient_clip_val)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Take an optimizer step, then bring members back to what constrains them."""
        super().optimizer_step(*args, **kwargs)
        self.zero_grad()  # Lightning would keep gradients through the next forward, where memory is short
        for sae in self.members.values():
            sae.constrain()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of other members or sizes, before its tensors are copied."""
        saved, own = (
            {name: tuple(tensor.shape) for name, tensor in state.items() if name.endswith("W_dec")}
            for state in (checkpoint["state_dict"], self.state_dict())
        )
        if set(saved) != set(own):
            raise ValueError(
                f"the checkpoint has the SAEs {sorted(saved)}, the configuration {sorted(own)}: "
                "use config.yaml from its run folder"
            )
        for name, (d_sae, d_in) in saved.items():
            if (d_sae, d_in) != own[name]:
                raise ValueError(
                    f"data.d_in={own[name][1]} and d_sae={own[name][0]}, "
                    f"but the checkpoint has d_in={d_in} and d_sae={d_sae} ({name}): "
                    "use the data and sizes that it was trained with, see config.yaml in its run folder"
                )
        for sae in self.members.values():
            sae.is_initialised = True

    def configure_model(self) -> None:
        """Tell DDP not to broadcast buffers at each step: what changes in them is already reduced over ranks."""
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]


def columns_by_part(widths: Mapping[str, int]) -> dict[str, slice]:
    """Return which columns of the activations each part has, from the widths of the parts in order.

    >>> columns_by_part({"early": 4, "late": 2})
    {'early': slice(0, 4, None), 'late': slice(4, 6, None)}
    """
    ends = accumulate(widths.values(), initial=0)
    return {part: slice(*span) for part, span in zip(widths, pairwise(ends), strict=True)}


def _clip_by_norm(sae: "SparseAutoencoder", max_norm: float) -> None:
    """Clip as `torch.nn.utils.clip_grad_norm_`, but spare gradients below the norm a pass that multiplies them by 1."""
    parameters = [parameter for parameter in sae.parameters() if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    if norm.device.type != "cpu" or not norm + 1e-6 <= max_norm:  # elsewhere looking would mean waiting
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
