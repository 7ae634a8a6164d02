"""Where a run keeps its files while it is running."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


def run_folder(trainer: "Trainer") -> Path | None:
    """Return the folder of this run, or None when it keeps no files (no logger, or a fast development run).

    Every rank has to ask, since the answer is broadcast from the first.
    """
    if not trainer.loggers or getattr(trainer, "fast_dev_run", False):
        return None
    return Path(trainer.log_dir) if trainer.log_dir else None
