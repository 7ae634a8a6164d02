"""Where a run can be taken up again: the state at the latest validation, and at the end."""

from typing import Any

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
