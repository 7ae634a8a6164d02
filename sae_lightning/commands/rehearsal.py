"""What Lightning refuses about machine and precision, found before a model is loaded.

Lightning checks devices when it builds the Trainer, and `sae fit` builds that after model and data. So a trainer of the
same devices is built, and dropped, when the configuration is read.
"""

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from sae_lightning.trainer import has_float64, refuse_half_weights, refuse_without_float64

_MACHINE = ("accelerator", "strategy", "devices", "num_nodes", "precision")
_USUAL = ("auto", 1, "32-true")
_QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


def choose_machine(settings: Any) -> None:
    """Refuse devices and precisions that cannot train an SAE; leave a device aside that only `auto` would choose.

    Args:
        settings: of the trainer, as parsed; the accelerator may be changed from auto to cpu.

    Raises:
        ValueError: in the words of Lightning, with the settings at fault.
    """
    given = {name: settings[name] for name in _MACHINE if _is_plain(settings.get(name))}
    refuse_half_weights(str(given.get("precision")))
    log = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    level = log.level
    log.setLevel(logging.ERROR)  # the trainer of the run says the same again
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = Trainer(**given, **_QUIET)  # type: ignore[arg-type]
    except (MisconfigurationException, ImportError, TypeError, ValueError, RuntimeError) as error:
        what = ", ".join(f"trainer.{name}={value}" for name, value in given.items() if value not in _USUAL)
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{what}: {reason} This machine has {_devices()}; leave these out to train on one") from error
    finally:
        log.setLevel(level)
    if isinstance(trainer.accelerator, MPSAccelerator):
        if settings.accelerator != "auto":
            refuse_without_float64(settings.accelerator, "mps")
        elif not has_float64("mps"):
            rank_zero_info("The Apple GPU stays unused: it has no float64, in which metrics are summed.")
            settings.accelerator = "cpu"


def say_unused_devices(trainer: Trainer) -> None:
    """Say so where one of several GPUs is used: more of them change the experiment, so they have to be asked for."""
    n = torch.cuda.device_count()
    if isinstance(trainer.accelerator, CUDAAccelerator) and trainer.num_devices * trainer.num_nodes == 1 < n:
        rank_zero_info(
            f"1 of {n} GPUs is used. With --trainer.devices {n} --trainer.strategy ddp each of them reads its own "
            f"data.batch_size: a step then takes {n} times as many samples, and an epoch a {n}th of the steps."
        )


def _is_plain(value: Any) -> bool:
    """Return whether a setting is a value and no class to be built."""
    return value is not None and not isinstance(value, Mapping) and not hasattr(value, "class_path")


def _devices() -> str:
    n = torch.cuda.device_count()
    return f"{n} GPU{'s' * (n > 1)} and a CPU" if n else "a CPU and no GPU that torch can use"
