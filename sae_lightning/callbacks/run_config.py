"""``config.yaml``, from which a run can be repeated or resumed, and ``starts.jsonl`` on each of its starts."""

import platform
import subprocess
from contextlib import suppress
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from typing_extensions import override

from sae_lightning import __version__
from sae_lightning.datamodules.base import ActivationDataModule
from sae_lightning.datamodules.norms import write_norms
from sae_lightning.runs.starts import add_start
from sae_lightning.trainer import any_datamodule_of, run_folder

_LIBRARIES = ("torch", "lightning", "transformers", "numpy")


class RunConfig(SaveConfigCallback):
    """Write ``config.yaml`` to the run folder, if there is one, and a line about this start to ``starts.jsonl``.

    Beside them ``massive_activations.json`` keeps the norms above which activations are left out.

    The checkpoint that a run is resumed from is left out if it lies in the run folder, so that the file still describes
    the whole run from its start.
    """

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        run = run_folder(trainer)
        if run is None:
            return
        checkpoint = self.config.get("ckpt_path")
        if checkpoint is not None and run.resolve() in Path(str(checkpoint)).resolve().parents:
            self.config = self.config.clone()
            self.config["ckpt_path"] = None
            self.config["trainer.logger.init_args.version"] = None  # repeating the run must not overwrite it
        is_first = not self.already_saved
        super().setup(trainer, pl_module, stage)
        datamodule = any_datamodule_of(trainer)
        if trainer.is_global_zero and isinstance(datamodule, ActivationDataModule) and datamodule.massive is not None:
            write_norms(run, datamodule.massive)
        if is_first and trainer.is_global_zero:
            devices = f"{trainer.world_size} x {trainer.strategy.root_device.type}"
            add_start(run, describe_start(stage) | {"devices": devices})


def describe_start(command: str) -> dict[str, Any]:
    """Return the time, the command, and the commit and versions of the code that runs it."""
    versions = {"sae_lightning": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    time = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"time": time, "command": command, "commit": commit(), "versions": versions}


def commit() -> str | None:
    """Return the commit of this code, with a + if it has been changed; None outside its own repository."""
    package = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    with suppress(OSError, subprocess.SubprocessError):
        if not git("ls-files", "__init__.py"):
            return None  # the package is installed inside another repository
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    return None
