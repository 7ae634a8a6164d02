"""``config.yaml``: the settings of a run, from which it can be repeated or gone on with."""

from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from typing_extensions import override

from sae_lightning.loggers import run_folder


class RunConfig(SaveConfigCallback):
    """Write ``config.yaml`` to the run folder, if there is one.

    The checkpoint that a run goes on from is left out when it lies in the folder itself: the file then still describes
    the whole run, from its start.
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
        super().setup(trainer, pl_module, stage)
