"""Where a run can be taken up again: the state at the latest validation, and at the end."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from typing_extensions import override


class Checkpoints(ModelCheckpoint):
    """Keep ``checkpoints/step=N.ckpt`` of the latest validation, and ``last.ckpt`` as a link to it.

    Lightning's own stops saving at the last validation, which need not be the end; here the end is saved too.
    """

    def __init__(self) -> None:
        super().__init__(filename="{step}", save_top_k=1, save_last="link")

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._should_skip_saving_checkpoint(trainer):  # it skips a step that is saved already
            candidates = self._monitor_candidates(trainer)
            self._save_topk_checkpoint(trainer, candidates)
            self._save_last_checkpoint(trainer, candidates)

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict.get("dirpath") == self.dirpath:  # another run's list of files is of no use to this one
            super().load_state_dict(state_dict)


class WholeFiles(TorchCheckpointIO):
    """Writes a local checkpoint under another name, and gives it its own when it is whole and on the disk.

    Lightning's own makes the file in memory, twice, and moves it from the system's folder for temporary files, which
    copies it where that is another disk.
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        whole, part = Path(path), Path(f"{path}.part")
        whole.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        part.replace(whole)
