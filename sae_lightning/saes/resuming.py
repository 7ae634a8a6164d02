"""Resuming a run with other settings than those of its checkpoint: what can be applied is, and is reported.

Lightning restores optimizer and schedule as they were saved, and a complete epoch stays complete. So after its
restart the learning rate and the other arguments of the optimizer are set to those of the configuration where these
have changed, a `WarmupDecay` spans the run as long as it is now, and a run that was finished goes on when it is to have
more samples or steps. Without a change nothing is touched: the resumed run has the bits of an uninterrupted one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sae_lightning.moving_line import LINE
from sae_lightning.provenance import Difference, describe, differences
from sae_lightning.saes.schedule import WarmupDecay

_HOW_IT_COMPUTES = ("params", "initial_lr", "fused", "foreach", "capturable", "differentiable", "maximize")


@dataclass
class Resumed:
    """From where a run was resumed, and what has changed.

    Args:
        step: optimizer steps of the checkpoint.
        optimization: of the checkpoint, see `optimization_of`; None in an older one.
        changes: settings that differ from those of the checkpoint and are applied.
        before: earlier changes of this run, as `history` returns them.
    """

    step: int
    optimization: Mapping[str, Any] | None
    changes: list[Difference] = field(default_factory=list)
    before: list[dict[str, Any]] = field(default_factory=list)

    def history(self) -> list[dict[str, Any]]:
        """Return at which steps settings were changed, each with its old and its new value."""
        changed = {one.name: [one.saved, one.given] for one in self.changes}
        return [*self.before, {"step": self.step, "changed": changed}] if changed else self.before

    def report(self) -> str:
        """Return a line for the terminal."""
        changed = "; ".join(one.as_change for one in self.changes)
        return f"resumed at step {self.step}" + (f", changed: {changed}" if changed else ", nothing changed")


def groups_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return the arguments of each parameter group of an optimizer that has just been made, as JSON has them."""
    return [
        {name: describe(value) for name, value in group.items() if name not in _HOW_IT_COMPUTES}
        for group in optimizer.param_groups
    ]


def optimization_of(
    optimizer: Optimizer, groups: Sequence[Mapping[str, Any]], scheduler: LRScheduler | None
) -> dict[str, Any]:
    """Return class and arguments of optimizer and schedule.

    Args:
        optimizer: of the run.
        groups: its `groups_of` before there was a schedule.
        scheduler: that was made for it.
    """
    schedule = None
    if scheduler is not None:
        own = {name: value for name, value in vars(scheduler).items() if isinstance(value, bool | int | float | str)}
        schedule = {"class": type(scheduler).__name__} | {k: v for k, v in own.items() if not k.startswith("_")}
        schedule.pop("last_epoch", None)
    return {"class": type(optimizer).__name__, "groups": list(groups), "lr_scheduler": schedule}


def refuse_other_optimizer(resumed: Resumed, given: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> None:
    """Refuse an optimizer or a schedule whose state the checkpoint does not have; note what changes in them.

    Args:
        resumed: gets the changes.
        given: `optimization_of` this run.
        checkpoint: the loaded one.

    Raises:
        ValueError: if the state cannot be carried over.
    """
    saved = resumed.optimization
    state = (checkpoint["optimizer_states"] or [{"param_groups": []}])[0]["param_groups"]
    names = [{name for name in group if name not in _HOW_IT_COMPUTES} for group in state]
    new = "Its state cannot be carried over: resume with that of the checkpoint, or start anew without ckpt_path"
    if saved is not None and saved["class"] != given["class"]:
        raise ValueError(f"model.optimizer={given['class']}, and the checkpoint has {saved['class']}. {new}")
    old_names, new_names = ([group.get("name") for group in groups] for groups in (state, given["groups"]))
    if any([*old_names, *new_names]) and old_names != new_names:
        raise ValueError(
            f"model.learning_rates: the parameters are in the groups {new_names}, and those of the checkpoint in "
            f"{old_names}. {new}"
        )
    if names != [set(group) for group in given["groups"]]:
        raise ValueError(f"model.optimizer={given['class']} is not the optimizer of the checkpoint. {new}")
    if saved is None:
        return
    old, new_schedule = (one["lr_scheduler"] or {"class": None} for one in (saved, given))
    of_schedule = list(differences(old, new_schedule, "model.lr_scheduler"))
    if fixed := [one for one in of_schedule if old["class"] != "WarmupDecay" or one.name.count(".") == 1]:
        raise ValueError(f"{fixed[0].name}={fixed[0].given}, and the checkpoint has {fixed[0].saved}. {new}")
    of_groups = [
        Difference(one.name.replace(".0.", ".") if len(saved["groups"]) == 1 else one.name, one.saved, one.given)
        for i, groups in enumerate(zip(saved["groups"], given["groups"], strict=True))
        for one in differences(*groups, f"model.optimizer.{i}")
    ]
    resumed.changes += of_groups + of_schedule


def apply_optimization(resumed: Resumed, given: Mapping[str, Any], optimizer: Optimizer, scheduler: Any) -> None:
    """Set what has changed in optimizer and schedule, after their states have been restored."""
    saved = resumed.optimization
    if saved is None or saved == given:
        return
    before = [group["lr"] for group in optimizer.param_groups]
    for i, (old, new, group) in enumerate(zip(saved["groups"], given["groups"], optimizer.param_groups, strict=True)):
        for name in (name for name in new if name in old and new[name] != old[name]):
            if name != "lr":
                group[name] = tuple(new[name]) if isinstance(group[name], tuple) else new[name]
                continue
            # Wherever a schedule has brought it, the learning rate changes in proportion.
            group["lr"] = group["lr"] * new["lr"] / old["lr"] if old["lr"] else new["lr"]
            if scheduler is not None:
                group["initial_lr"] = scheduler.base_lrs[i] = new["lr"]
    if isinstance(scheduler, WarmupDecay):
        schedule = given["lr_scheduler"]
        scheduler.warmup, scheduler.decay = schedule["warmup"], schedule["decay"]
        scheduler.span(schedule["total_steps"])
        scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]
    after = [group["lr"] for group in optimizer.param_groups]
    if after != before:
        LINE.say(f"the learning rate of the next step is {after[0]:.4g}, and was to be {before[0]:.4g}")


def reopen_epoch(checkpoint: Mapping[str, Any], n_batches: int) -> None:
    """Let the last epoch go on, if it was complete and is to have more batches now.

    Args:
        checkpoint: changed in place.
        n_batches: of an epoch.

    Raises:
        ValueError: if the epoch has had more batches already.
    """
    loops = checkpoint["loops"]["fit_loop"]
    batches, epochs = loops["epoch_loop.batch_progress"], loops["epoch_progress"]
    done = batches["current"]["processed"]
    if done > n_batches:
        raise ValueError(
            f"data.train_samples or trainer.limit_train_batches: an epoch is to have {n_batches} batches, and the "
            f"checkpoint has trained on {done} already: give at least as many"
        )
    if done == n_batches:
        return
    batches["is_last_batch"] = False
    for progress in epochs.values():
        if progress["processed"] == progress["ready"] > 0:
            progress["processed"] = progress["completed"] = progress["ready"] - 1
