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
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from typing_extensions import override

from sae_lightning import __version__
from sae_lightning.datamodules.base import ActivationDataModule
from sae_lightning.datamodules.norms import write_norms
from sae_lightning.runs.metrics_lines import METRICS_FILE
from sae_lightning.runs.next_folder import take_next_number
from sae_lightning.runs.run import CONFIG_FILE, SAES_FOLDER
from sae_lightning.runs.starts import add_start
from sae_lightning.saes.module import SAEModule
from sae_lightning.saes.resuming import Resumed
from sae_lightning.trainer import any_datamodule_of, run_folder
from sae_lightning.whole_files import write_whole

_LIBRARIES = ("torch", "lightning", "transformers", "numpy")
_OF_A_RUN = (CONFIG_FILE, METRICS_FILE, SAES_FOLDER, "checkpoints")


class RunConfig(SaveConfigCallback):
    """Write ``config.yaml`` to the run folder, if there is one, and a line about this start to ``starts.jsonl``.

    Beside them ``massive_activations.json`` keeps the norms above which activations are left out.

    The checkpoint that a run is resumed from is left out if it lies in the run folder, so that the file still describes
    the whole run from its start; and the file is written only when the checkpoint has been found to belong to this
    configuration. Where settings have changed, the file that was valid up to the checkpoint is kept as
    ``config_to_step_N.yaml``.
    """

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        run = run_folder(trainer)
        if run is None:
            return
        checkpoint = self.config.get("ckpt_path")
        if stage == "fit" and _is_in(checkpoint, run):
            self.config = self.config.clone()
            self.config["ckpt_path"] = None
            if self.config.get("trainer.logger.init_args.version") is not None:
                self.config["trainer.logger.init_args.version"] = None  # repeating the run must not overwrite it
        if checkpoint is None:
            self._write(run, trainer, pl_module, stage)

    @override
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if not self.already_saved:
            self._write(run_folder(trainer), trainer, pl_module, "fit")

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(run_folder(trainer), trainer, pl_module, "validate")

    @override
    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(run_folder(trainer), trainer, pl_module, "test")

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        run = run_folder(trainer)
        if run is not None and not self.already_saved and trainer.is_global_zero:
            # Nothing was left to train, so no setting of this start has been applied: config.yaml stays as it is.
            add_start(run, self._start(trainer, pl_module, "fit") | {"trained": False})

    def _write(self, run: Path | None, trainer: Trainer, pl_module: LightningModule, command: str) -> None:
        """Write both files, once."""
        if self.already_saved or run is None:
            return
        self.already_saved = True
        if not trainer.is_global_zero:
            return
        text, before = self.parser.dump(self.config, skip_none=False), run / CONFIG_FILE
        resumed = _resumed(pl_module)
        if resumed is not None and resumed.changes and before.is_file() and before.read_text("utf-8") != text:
            before.replace(run / f"config_to_step_{resumed.step}.yaml")
        write_whole(run / CONFIG_FILE, text)
        datamodule = any_datamodule_of(trainer)
        if isinstance(datamodule, ActivationDataModule) and datamodule.massive is not None:
            write_norms(run, datamodule.massive)
        add_start(run, self._start(trainer, pl_module, command))

    def _start(self, trainer: Trainer, pl_module: LightningModule, command: str) -> dict[str, Any]:
        start = describe_start(command) | {"devices": f"{trainer.world_size} x {trainer.strategy.root_device.type}"}
        if (resumed := _resumed(pl_module)) is None:
            return start
        return start | {"resumed": {"step": resumed.step, "changes": [one.as_change for one in resumed.changes]}}


def _resumed(module: LightningModule) -> Resumed | None:
    return module.resumed if isinstance(module, SAEModule) else None


def take_folder(trainer: Trainer, command: str, checkpoint: Any) -> None:
    """Take the next free folder, where none is said; refuse one in which there is a run, unless it is resumed.

    To be called before the trainer is started: loggers open their files then, and some empty them.

    Args:
        trainer: that is to run.
        command: fit, validate or test.
        checkpoint: from which it starts.

    Raises:
        ValueError: says how that run is resumed.
    """
    if not trainer.is_global_zero:
        return
    first = trainer.logger
    if isinstance(first, CSVLogger | TensorBoardLogger) and first._version is None:
        # By themselves they take the number that is free now, and so does another run that starts in this second.
        first._version = take_next_number(Path(first.root_dir))
    if (run := run_folder(trainer)) is None:
        return
    if (command == "fit" and _is_in(checkpoint, run)) or not any((run / name).exists() for name in _OF_A_RUN):
        return
    last = run / "checkpoints/last.ckpt"
    resume = f", or resume that run: sae fit --config {run / CONFIG_FILE} --ckpt_path {last}" if last.exists() else ""
    raise ValueError(
        f"{run} holds a run already, which is not overwritten. Leave out trainer.logger.version, and the next free "
        f"number is taken, or give another --name{resume}"
    )


def _is_in(checkpoint: Any, run: Path) -> bool:
    """Return whether a checkpoint is one of the run; Lightning looks for `last` and `best` there."""
    if checkpoint is None:
        return False
    return str(checkpoint) in ("last", "best") or run.resolve() in Path(str(checkpoint)).resolve().parents


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
