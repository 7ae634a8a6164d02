"""What Lightning's connectors set on a Trainer, with types; and where a run keeps its files while it is running."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_lightning.checks import check_at_least, check_between, check_whole

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lightning.pytorch import Callback, Trainer


def callbacks_of(trainer: "Trainer") -> "list[Callback]":
    """Return the callbacks of a trainer."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return callbacks


def any_datamodule_of(trainer: "Trainer") -> object:
    """Return the datamodule of a trainer, of whatever kind; None where it was given plain loaders."""
    datamodule: object = trainer.datamodule  # type: ignore[attr-defined]
    return datamodule


def train_batches_of(trainer: "Trainer") -> "Iterable[Any]":
    """Return the training data of a trainer before its fit has begun, from a datamodule or as a plain loader."""
    # Lightning has no public way to them before it has restored a checkpoint, which needs a module with a start.
    return trainer.fit_loop._data_source.dataloader()


def log_interval_of(trainer: "Trainer") -> int:
    """Return how many optimizer steps lie between two logged ones."""
    interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return interval


def refuse_half_weights(precision: str) -> None:
    """Refuse a precision whose weights have 8 or 11 significant bits.

    An update of a weight is a thousandth of it or less. Added to a bfloat16 number it is lost below a 256th, and a
    float16 gradient of a small latent is 0: training runs, and ends elsewhere. Every variant is concerned.

    Args:
        precision: of a trainer, such as bf16-true.

    Raises:
        ValueError: if weights would be bfloat16 or float16.
    """
    if precision in ("bf16-true", "16-true", "transformer-engine", "transformer-engine-float16"):
        raise ValueError(
            f"trainer.precision={precision} keeps the weights of SAEs in half precision, where most updates are "
            "smaller than the distance between two numbers and are lost. Take trainer.precision=bf16-mixed, which "
            "multiplies in bfloat16 and keeps weights in float32; the number format of a language model is data.dtype"
        )


def has_float64(device: str) -> bool:
    """Return whether a kind of device has float64, which an Apple GPU has not."""
    import torch

    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (TypeError, RuntimeError, NotImplementedError):
        return False
    return True


def refuse_without_float64(accelerator: str, device: str) -> None:
    """Refuse a device on which metrics cannot be summed.

    Args:
        accelerator: as the trainer was given it, or as it has chosen.
        device: kind of device.

    Raises:
        ValueError: if the device has no float64.
    """
    if not has_float64(device):
        raise ValueError(
            f"trainer.accelerator={accelerator}: metrics are sums in float64, which this device lacks; "
            "take trainer.accelerator=cpu"
        )


def run_folder(trainer: "Trainer") -> Path | None:
    """Return the folder of this run, or None when it keeps no files (no logger, or a fast development run).

    Every rank has to ask, since the answer is broadcast from the first.
    """
    if not trainer.loggers or getattr(trainer, "fast_dev_run", False):
        return None
    return Path(trainer.log_dir) if trainer.log_dir else None


def numbers_of(trainer: "Trainer") -> dict[str, Any]:
    """Return what a trainer was given for steps, intervals and clipping."""
    names = ("accumulate_grad_batches", "gradient_clip_val", "max_epochs", "max_steps", "val_check_interval")
    return {"log_every_n_steps": log_interval_of(trainer)} | {name: getattr(trainer, name) for name in names}


def check_trainer_numbers(settings: Mapping[str, Any]) -> None:
    """Refuse numbers of a trainer that Lightning takes without a word, or finds late.

    Args:
        settings: arguments of a Trainer by name; those that are missing or None keep Lightning's default.

    Raises:
        ValueError: names the argument.
    """
    given = {name: value for name, value in settings.items() if value is not None and not isinstance(value, bool)}
    for name in ("accumulate_grad_batches", "log_every_n_steps", "check_val_every_n_epoch", "num_nodes"):
        if name in given:
            check_whole(1, **{f"trainer.{name}": given[name]})
    for name in ("min_epochs", "min_steps"):
        if name in given:
            check_whole(0, **{f"trainer.{name}": given[name]})
    for name in ("max_epochs", "max_steps", "num_sanity_val_steps"):
        if name in given:
            check_whole(-1, hint="where -1 is no limit", **{f"trainer.{name}": given[name]})
    if "gradient_clip_val" in given:
        check_at_least(0, hint="where 0 clips nothing", **{"trainer.gradient_clip_val": given["gradient_clip_val"]})
    for name in ("val_check_interval", "limit_train_batches", "limit_val_batches", "limit_test_batches"):
        value = given.get(name)
        if isinstance(value, float):
            check_between(0, 1, hint="a share of an epoch", **{f"trainer.{name}": value})
        elif isinstance(value, int):
            check_whole(0, hint="a number of batches", **{f"trainer.{name}": value})
        if name == "val_check_interval" and value == 0:
            raise ValueError(
                f"trainer.{name}={value}: expected a number of batches from 1, or a share of an epoch above 0; "
                "trainer.limit_val_batches=0 leaves out validation"
            )
