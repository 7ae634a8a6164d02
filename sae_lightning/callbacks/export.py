"""Export the SAEs of a run to files that other programs can read."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from typing_extensions import override

from sae_lightning.distributed import is_first_of_members
from sae_lightning.runs.run import SAES_FOLDER
from sae_lightning.saes import SAEModule
from sae_lightning.saes.record import provenance_of, record_of
from sae_lightning.saes.splitting import whole
from sae_lightning.trainer import run_folder


class ExportSAEs(Callback):
    """Write each member to ``saes/<policy>/<seed>/`` of the run folder when a fit has finished.

    References are written too, in the format of this library, and the first draw of each of their controls; also where
    nothing is trained, when they have been measured. An interrupted fit exports nothing; its state is in the
    checkpoint.
    """

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        run = run_folder(trainer)
        if run is None or not isinstance(pl_module, SAEModule):
            return
        resumed = pl_module.resumed
        record = record_of(pl_module) if is_first_of_members() else {}
        is_unchanged = resumed is not None and resumed.step == trainer.global_step
        for member, own in pl_module.trained_members.items():
            sae = whole(own)
            if sae is None or not is_first_of_members():
                continue
            if is_unchanged and (run / SAES_FOLDER / str(member) / "sae.json").is_file():
                continue  # nothing was trained: what the file says of its training stays true
            sae.provenance = provenance_of(pl_module, member, record)
            sae.save(run / SAES_FOLDER / str(member))
        if is_first_of_members():
            _export_beside(run, pl_module)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        run = run_folder(trainer)
        if run is None or not is_first_of_members() or not isinstance(pl_module, SAEModule):
            return
        if trainer.state.fn != TrainerFn.FITTING and not pl_module.all_trained_members:
            _export_beside(run, pl_module)

    on_test_end = on_validation_end


def _export_beside(run: Path, module: SAEModule) -> None:
    """Export what is not trained, where it is not there yet."""
    for member, sae in module.members.items():
        is_beside = member not in module.trained_members and member.seed == 0
        is_null = member.policy in module.references and not _is_first_part(module, member.policy, member.part)
        if is_beside and not is_null and not (run / SAES_FOLDER / str(member) / "sae.json").is_file():
            sae.save(run / SAES_FOLDER / str(member))


def _is_first_part(module: SAEModule, policy: str, part: str) -> bool:
    """Return whether a reference reads this part of the activations before all others, which are nulls of it."""
    return part == next(member.part for member in module.all_members if member.policy == policy)
