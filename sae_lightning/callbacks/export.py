"""Export the trained SAEs to files that other programs can read."""

from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from sae_lightning.runs.run import SAES_FOLDER
from sae_lightning.saes import SAEModule
from sae_lightning.saes.record import provenance_of
from sae_lightning.trainer import run_folder


class ExportSAEs(Callback):
    """Write each member to ``saes/<policy>/<seed>/`` of the run folder when a fit has finished.

    An interrupted fit exports nothing; its state is in the checkpoint.
    """

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        run = run_folder(trainer)
        if run is None or not trainer.is_global_zero or not isinstance(pl_module, SAEModule):
            return
        resumed = pl_module.resumed
        is_unchanged = resumed is not None and resumed.step == trainer.global_step
        for member, sae in pl_module.members.items():
            if is_unchanged and (run / SAES_FOLDER / str(member) / "sae.json").is_file():
                continue  # nothing was trained: what the file says of its training stays true
            sae.provenance = provenance_of(pl_module, member)
            sae.save(run / SAES_FOLDER / str(member))
