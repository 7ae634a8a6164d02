"""What training one SAE and training many side by side have in common: the LightningModule around `members`."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer

from sae_lightning.distributed import Ranks, join_members, world_size
from sae_lightning.latent_mesh import LATENTS
from sae_lightning.members import LoggedName, Member
from sae_lightning.moving_line import LINE, wrapped
from sae_lightning.saes import checkpointing, start
from sae_lightning.saes.data import ActivationData, refuse_unread_nulls, where_not_finite
from sae_lightning.saes.finite import non_finite_weight, why_not_finite
from sae_lightning.saes.held_l0 import SETTLING_SAMPLES
from sae_lightning.saes.inputs import activations_in, check_shape, non_finite
from sae_lightning.saes.loss_curve import LossCurve
from sae_lightning.saes.optimizers import (
    check_learning_rates,
    clip_by_norm,
    gradient_norm,
    refuse_unless_elementwise,
    speed_up,
)
from sae_lightning.saes.resuming import (
    Resumed,
    apply_optimization,
    groups_of,
    optimization_of,
    refuse_other_optimizer,
)
from sae_lightning.saes.schedule import WarmupDecay
from sae_lightning.saes.step import Step
from sae_lightning.trainer import (
    any_datamodule_of,
    check_trainer_numbers,
    log_interval_of,
    numbers_of,
    refuse_half_weights,
    refuse_without_float64,
)

if TYPE_CHECKING:
    from sae_lightning.saes.base import SparseAutoencoder


OTHERS = "all others"
"""Name of the parameter group of policies without a learning rate of their own; no policy can have it."""


class SAEModule(LightningModule, ABC):
    """Train `members` on the same batches; each is independent of the others.

    The losses are added and go through one optimizer. Since members share no parameters, this gives each of them the
    gradients and (for any optimizer that works per parameter, as Adam) the steps that it would have alone.
    `trainer.gradient_clip_val` clips every member by its own norm.
    """

    optimizer: OptimizerCallable
    lr_scheduler: LRSchedulerCallable | None
    sizes: Mapping[str, tuple[str, str]] = {}
    """Where members have several sizes, the size of each policy and what it is among those of its size, `trained` or
    a baseline: `{"x8": ("x8", "trained"), "x8_frozen_decoder": ("x8", "frozen_decoder")}`; else empty. A reference and
    its controls are a size of their own."""
    references: Mapping[str, str] = {}
    """By policy where an SAE was read from that is measured and not trained."""
    reference_fingerprints: Mapping[Member, str] = {}
    """What the weights of each reference are known by."""
    controls_for: Mapping[str, str] = {}
    """By policy what a control of a reference controls for, a clause."""
    sae_option: ClassVar[str] = "model"
    """The option under which the user gives the arguments of an SAE."""
    optimization: dict[str, Any] | None = None
    """Class and arguments of optimizer and schedule, once a fit has made them."""
    resumed: Resumed | None = None
    """Where a resumed fit goes on."""
    loss_curve: LossCurve | None = None
    """The training losses of a fit whose number of steps is known."""
    learning_rates: Mapping[str, float] = {}
    """By policy, where one has a learning rate of its own."""
    targets: Mapping[str, str] = {}
    """The hook at which transcoders answer, by that which they read; empty where members are SAEs."""
    loaded_checkpoint: Mapping[str, Any] = {}
    """That which a fit goes on from, until its optimizer has been compared with it."""
    finite_at: int | None = None
    """The last step at which losses were seen to be finite."""

    @property
    @abstractmethod
    def members(self) -> Mapping[Member, "SparseAutoencoder"]:
        """The SAEs of this rank."""

    @property
    def trained_members(self) -> Mapping[Member, "SparseAutoencoder"]:
        """The SAEs of this rank that a fit trains: all but references and their controls."""
        return self.members

    @property
    def all_members(self) -> Mapping[Member, "SparseAutoencoder"]:
        """The SAEs of the run in their order; those that live on other ranks have tensors without data."""
        return self.members

    @property
    def all_trained_members(self) -> Mapping[Member, "SparseAutoencoder"]:
        """The SAEs of the run that a fit trains, see `all_members`."""
        return self.trained_members

    @property
    def optimized(self) -> Mapping[str, Mapping[str, nn.Parameter]]:
        """The parameters that have gradients, of all members, by the name of their group and by their own."""
        groups: dict[str, dict[str, nn.Parameter]] = {}
        for member, sae in self.all_trained_members.items():
            group = groups.setdefault(member.policy if member.policy in self.learning_rates else OTHERS, {})
            group |= {f"{member}.{name}": own for name, own in sae.named_parameters() if own.requires_grad}
        return {name: group for name, group in groups.items() if group}

    def activations_for(self, member: Member, activations: Tensor) -> Tensor:
        """Return what one member reads of activations [..., d_in]: all of them."""
        return activations

    def target_for(self, member: Member, activations: Tensor) -> Tensor | None:
        """Return what one member is to answer with to activations [..., d_in]; None where it is what it reads."""
        return None

    @property
    def width(self) -> int:
        """Width of the activations, of which each member reads its part."""
        first: dict[str, int] = {member.part: sae.d_in for member, sae in self.all_members.items()}
        return sum(first.values())

    @property
    def n_latent_ranks(self) -> int:
        """Number of ranks over which the strategy deals out the latents of each SAE that is trained."""
        mesh = self.device_mesh
        return mesh[LATENTS].size() if mesh is not None and LATENTS in (mesh.mesh_dim_names or ()) else 1

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
            ValueError: if there are null versions of the activations, and no SAEs for each, if weights would be kept
                in half precision, or if the device has no float64.
        """
        refuse_half_weights(str(self.trainer.precision))
        device = self.trainer.strategy.root_device.type
        refuse_without_float64(device, device)
        check_trainer_numbers(numbers_of(self.trainer))
        if stage == "fit":
            self.train()  # an SAE that was read from a file is in evaluation mode, and Lightning leaves it there
        data = any_datamodule_of(self.trainer)
        refuse_unread_nulls(self, data)
        if stage == "fit":
            start.start_members(self)
            if isinstance(data, ActivationData):
                data.use_starting_dictionaries(self.trained_members)

    def initialise_members(self, samples: Tensor | None = None) -> None:
        """Give every member that is trained its start, or what it still lacks of it.

        Args:
            samples: [n, d_in] raw activations; None where there are none yet.
        """
        start.initialise_members(self, samples)

    def draw_calibration_sample(self, n: int) -> Tensor:
        """Return n activations, those of rank 0: a start from each rank's own data would differ between ranks."""
        return start.draw_calibration_sample(self, n)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:  # noqa: ANN401
        """Return the sum of the members' losses on one batch of raw activations, see `activations_in`."""
        batch = activations_in(batch, self.width)
        to_log = self.global_step % log_interval_of(self.trainer) == 0
        of_members: list[Tensor] = []
        named: dict[str, Tensor] = {}
        for member, sae in self.trained_members.items():
            x, target = self.activations_for(member, batch), self.target_for(member, batch)
            losses = sae.loss_terms_for(target, x, self.global_step)
            of_members.append(losses["loss"])
            # Elsewhere than on a CPU looking would mean waiting. A loss that has become NaN stays so: weights are, too.
            if (to_log or batch.device.type == "cpu") and not torch.isfinite(losses["loss"]):
                problem = why_not_finite(sae, batch, losses["loss"]) + self._in_the_data()
                raise ValueError(f"{member} at step {self.global_step}: {problem}")
            if to_log:
                own = losses | {"explained_variance": sae.batch_explained_variance(x, losses["mse"], target)}
                own |= {"dead_fraction": sae.dead_fraction, "learning_rate": self._learning_rate(member)}
                named |= {str(LoggedName.of("train", key, member)): value.detach() for key, value in own.items()}
        if to_log:
            self._log_of_all(named)
        self.finite_at = self.global_step if to_log else self.finite_at
        stacked = torch.stack(of_members)
        if self.loss_curve is not None:
            self.loss_curve.add(self.global_step, stacked, float(self.trainer.optimizers[0].param_groups[0]["lr"]))
        return stacked.sum()

    def _log_of_all(self, named: Mapping[str, Tensor]) -> None:
        """Log what this rank knows of its members, and what other ranks know of theirs."""
        if world_size(Ranks.OTHER_MEMBERS) > 1:
            named = join_members({name: value.cpu() for name, value in named.items()})
        self.log_dict(named)

    def _learning_rate(self, member: Member) -> Tensor:
        """Return the learning rate of the next step of a member."""
        groups = self.trainer.optimizers[0].param_groups
        own = next((group for group in groups if group.get("name") == member.policy), groups[0])
        return torch.tensor(float(own["lr"]))

    def _in_the_data(self) -> str:
        """Name the first number in the training data that is not finite, where these can be searched."""
        return where_not_finite(any_datamodule_of(self.trainer))

    def on_validation_start(self) -> None:
        """Refuse to measure members whose weights are not finite."""
        self._check_weights()

    def on_train_epoch_end(self) -> None:
        """Refuse to finish with members whose weights are not finite."""
        self._check_weights()

    def _check_weights(self) -> None:
        for member, sae in self.members.items():
            if problem := non_finite_weight(sae):
                raise ValueError(
                    f"{member} after {self.global_step} steps: {problem}: lower the learning rate, or set "
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
            target, code = self.target_for(member, batch), sae.encode(x)
            x_hat, target = sae.decode(code), x if target is None else target
            if sae.crosscoder:
                x_hat, target = x_hat * sae.input_scale, target * sae.input_scale
            steps[member] = Step(x, code, x_hat, target)
        return steps

    test_step = validation_step  # type: ignore[assignment]

    def configure_optimizers(self) -> Any:  # noqa: ANN401
        """Return one optimizer over everything that has gradients; freeze policies have taken theirs away by now."""
        optimizer = speed_up(self.optimizer(self._trained_parameters()))
        check_learning_rates(optimizer)
        if any(sae.mesh.size > 1 for sae in self.trained_members.values()):
            refuse_unless_elementwise(optimizer)
        groups, scheduler = groups_of(optimizer), None
        if self.lr_scheduler is not None:
            scheduler = self.lr_scheduler(optimizer)
            if isinstance(scheduler, WarmupDecay):
                scheduler.span(int(self.trainer.estimated_stepping_batches))
        self.optimization = optimization_of(optimizer, groups, scheduler)
        if self.resumed is not None:
            refuse_other_optimizer(self.resumed, self.optimization, self.loaded_checkpoint)
            self.loaded_checkpoint = {}
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _trained_parameters(self) -> list[nn.Parameter] | list[dict[str, Any]]:
        """Return what has gradients; in groups where policies have learning rates of their own, each by its name."""
        here = {name: [one for one in group.values() if not one.is_meta] for name, group in self.optimized.items()}
        if not self.learning_rates:
            return here.get(OTHERS, [])
        rates = {name: {"lr": rate} for name, rate in self.learning_rates.items()}
        return [{"params": own, "name": name, **rates.get(name, {})} for name, own in here.items()]

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Remove from decoder gradients what the unit norm would undo, and log the norms that are left."""
        for sae in self.trained_members.values():
            sae.project_decoder_gradient()
        if (trainer := self._trainer) is not None and self.global_step % log_interval_of(trainer) == 0:
            norms = {member: gradient_norm(sae) for member, sae in self.trained_members.items()}
            self._log_of_all({str(LoggedName.of("train", "gradient_norm", one)): norm for one, norm in norms.items()})

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip every member by its own norm: members must not slow each other down."""
        if not gradient_clip_val:
            return
        for sae in self.trained_members.values():
            if gradient_clip_algorithm == "value":
                torch.nn.utils.clip_grad_value_(sae.parameters(), gradient_clip_val)
            else:
                clip_by_norm(sae, gradient_clip_val)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Take an optimizer step, then bring members back to what constrains them."""
        super().optimizer_step(*args, **kwargs)
        self.zero_grad()  # Lightning would keep gradients through the next forward, where memory is short
        for sae in self.trained_members.values():
            sae.constrain()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ANN401
        """Settle the l0 of members that hold one, after the last step and before the last validation."""
        if self.loss_curve is None or self.trainer.global_step != self.loss_curve.n_steps:
            return
        held = {member: sae for member, sae in self.trained_members.items() if sae.held_l0 is not None}
        if not held:
            return
        samples = self.draw_calibration_sample(SETTLING_SAMPLES)
        for member, sae in held.items():
            sae.settle(self.activations_for(member, samples).to(sae.W_dec.device))

    def on_train_start(self) -> None:
        """Apply what has changed in optimizer and schedule since the checkpoint that the fit was resumed from.

        Begin, or go on with, the curve of the training losses.
        """
        estimated = self.trainer.estimated_stepping_batches
        n_steps = int(estimated) if math.isfinite(estimated) and estimated > 0 else None
        if self.global_step and self.loss_curve is not None and self.loss_curve.n_steps == n_steps:
            self.loss_curve.to(self.device)
        else:
            self.loss_curve = None if n_steps is None else LossCurve(n_steps, len(self.trained_members), self.device)
        if self.resumed is not None and self.optimization is not None:
            if self.trainer.is_global_zero:
                LINE.say(wrapped(self.resumed.report(), 2))
            schedulers = self.trainer.lr_scheduler_configs
            scheduler = schedulers[0].scheduler if schedulers else None
            apply_optimization(self.resumed, self.optimization, self.trainer.optimizers[0], scheduler)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what the SAEs are of; refuse to save one that is not finite."""
        checkpointing.save(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of other members, sizes, activations or data, before its tensors are copied."""
        checkpointing.load(self, checkpoint)

    def all_tensors(self) -> Mapping[str, Tensor]:
        """Return the state of all members, without data where they live on other ranks."""
        return self.state_dict()

    def configure_model(self) -> None:
        """Deal latents out over ranks where the strategy asks for that.

        Tell DDP not to broadcast buffers at each step: what changes in them is already reduced over ranks.
        """
        if self.n_latent_ranks > 1:
            from sae_lightning.saes.splitting import split_latents

            for sae in self.trained_members.values():
                if sae.mesh.size == 1:  # a module is set up again for each fit and validation
                    assert self.device_mesh is not None
                    split_latents(sae, self.device_mesh[LATENTS])
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers()]
