"""What a checkpoint of a training module holds beside its tensors, and what is refused before these are copied.

`record.py` says what SAEs are of, and compares it; `resuming.py` applies what has changed since the checkpoint.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.trainer.states import TrainerFn

from sae_lightning.checkpoint_parts import PARTS, join
from sae_lightning.moving_line import LINE
from sae_lightning.saes.data import ActivationData
from sae_lightning.saes.finite import refuse_non_finite
from sae_lightning.saes.loss_curve import LossCurve
from sae_lightning.saes.record import KEY, record_of, refuse_other_record
from sae_lightning.saes.resuming import Resumed, reopen_epoch
from sae_lightning.trainer import any_datamodule_of

if TYPE_CHECKING:
    from sae_lightning.saes.module import SAEModule

LOSS_CURVE = "loss_curve"
"""Key of the losses in a checkpoint."""


def save(module: "SAEModule", checkpoint: dict[str, Any]) -> None:
    """Add to a checkpoint what the SAEs are of; refuse to save one that is not finite."""
    since = "" if module.finite_at is None else f"; the loss was finite at step {module.finite_at}"
    for member, sae in module.trained_members.items():
        refuse_non_finite(sae, str(member), f" at step {module.global_step}{since}")
    checkpoint[KEY] = record_of(module)
    if module.loss_curve is not None:
        checkpoint[LOSS_CURVE] = module.loss_curve.state_dict()


def load(module: "SAEModule", checkpoint: dict[str, Any]) -> None:
    """Refuse a checkpoint of other members, sizes, activations or data, and take up where it left the run."""
    if PARTS in checkpoint and module._trainer is not None:
        join(checkpoint, Path(str(module.trainer.ckpt_path)))
    saved, own = (
        {name: tuple(tensor.shape) for name, tensor in state.items() if name.endswith("W_dec")}
        for state in (checkpoint["state_dict"], module.all_tensors())
    )
    if set(saved) != set(own):
        raise ValueError(
            f"the checkpoint has the SAEs {_members(saved)}, the configuration {_members(own)}: use config.yaml from "
            "its run folder"
        )
    for name, (d_sae, d_in) in saved.items():
        if (d_sae, d_in) != own[name]:
            raise ValueError(
                f"data.d_in={own[name][1]} and d_sae={own[name][0]}, "
                f"but the checkpoint has d_in={d_in} and d_sae={d_sae} ({name}): "
                "use the data and sizes that it was trained with, see config.yaml in its run folder"
            )
    here = [number for number, member in enumerate(module.all_trained_members) if member in module.trained_members]
    module.loss_curve = LossCurve.of(checkpoint[LOSS_CURVE], here) if LOSS_CURVE in checkpoint else None
    if module._trainer is not None:
        _take_up(module, checkpoint)


def _members(dictionaries: Iterable[str]) -> str:
    """Return the members that tensors belong to.

    >>> _members(["saes.trained/0.W_dec", "W_dec"])
    'a lone SAE, trained/0'
    """
    names = (name.removeprefix("saes.").removesuffix("W_dec").rstrip(".") for name in dictionaries)
    return ", ".join(sorted(name or "a lone SAE" for name in names))


def _take_up(module: "SAEModule", checkpoint: dict[str, Any]) -> None:
    """Compare a checkpoint with this run, and let a finished fit go on where it is to be longer."""
    is_resumed = module.trainer.state.fn == TrainerFn.FITTING
    changes = refuse_other_record(module, checkpoint, is_resumed)
    if not is_resumed:
        if changes and module.trainer.is_global_zero:
            differing = "; ".join(str(one) for one in changes)
            LINE.say(f"measured on other data than the checkpoint was trained on: {differing}")
        return
    saved = checkpoint.get(KEY, {})
    module.resumed = Resumed(checkpoint["global_step"], saved.get("optimizer"), changes, saved.get("changed", []))
    module.loaded_checkpoint = checkpoint
    data = any_datamodule_of(module.trainer)
    if isinstance(data, ActivationData):
        n_batches, limit = data.n_train_batches(checkpoint), module.trainer.limit_train_batches
        n_batches = int(n_batches * limit) if isinstance(limit, float) else min(n_batches, limit or n_batches)
        reopen_epoch(checkpoint, n_batches)
