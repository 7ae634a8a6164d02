"""What Lightning's connectors set on a Trainer, with types; and where a run keeps its files while it is running."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch import Callback, Trainer


def callbacks_of(trainer: "Trainer") -> "list[Callback]":
    """Return the callbacks of a trainer."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return callbacks


def any_datamodule_of(trainer: "Trainer") -> object:
    """Return the datamodule of a trainer, of whatever kind; None where it was given plain loaders."""
    datamodule: object = trainer.datamodule  # type: ignore[attr-defined]
    return datamodule


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


def run_folder(trainer: "Trainer") -> Path | None:
    """Return the folder of this run, or None when it keeps no files (no logger, or a fast development run).

    Every rank has to ask, since the answer is broadcast from the first.
    """
    if not trainer.loggers or getattr(trainer, "fast_dev_run", False):
        return None
    return Path(trainer.log_dir) if trainer.log_dir else None
