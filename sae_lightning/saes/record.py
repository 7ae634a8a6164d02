"""What a run says of itself in each checkpoint and exported SAE, and what a checkpoint is compared with on loading.

    record = {activations: {part: ...}, data: ..., members: {member: ...}, references: {name: ...}, optimizer: ...,
              trainer: ..., steps: ...}

A resumed run goes on with the same members on the same stream: what decides these is refused when it differs. The rest
is taken from the configuration and reported (`changes`).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import sae_lightning
from sae_lightning.members import LoggedName, Member
from sae_lightning.provenance import Difference, describe, differences, refuse, refuse_other_activations
from sae_lightning.trainer import any_datamodule_of

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from sae_lightning.saes.module import SAEModule

KEY, FORMAT_VERSION = "sae_lightning", 1
"""Where the record is in a checkpoint, and its form."""
FREE_DATA = ("train_samples", "val_samples", "loss_samples", "n_workers", "verify", "local_folder")
"""Arguments of data that a resumed run may change: no batch depends on them."""
_TRAINER = (
    "max_epochs",
    "max_steps",
    "val_check_interval",
    "check_val_every_n_epoch",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "limit_train_batches",
    "limit_val_batches",
    "precision",
)
_OF_CHECKPOINTS = ("format_version", "activations", "members", "references")
"""What a record says of all SAEs of a run; the file of one says these of itself."""
_FROM_RUN = "Take config.yaml of the run folder that the checkpoint lies in"


@runtime_checkable
class DescribedData(Protocol):
    """A datamodule that says what its batches are."""

    def describe(self) -> dict[str, Any]:
        """Return class and arguments."""
        ...

    def describe_activations(self) -> dict[str, dict[str, Any]]:
        """Return what decides the activations of each part."""
        ...


def record_of(module: "SAEModule") -> dict[str, Any]:
    """Return the record of a run, plain values."""
    trainer = module.trainer
    data = any_datamodule_of(trainer)
    described = data if isinstance(data, DescribedData) else None
    return {
        "format_version": FORMAT_VERSION,
        "sae_lightning": sae_lightning.__version__,
        "activations": described.describe_activations() if described else None,
        "data": described.describe() if described else None,
        "members": _members(module),
        "references": _references(module),
        "model": type(module).__name__,
        "optimizer": module.optimization,
        "trainer": trainer_settings(trainer),
        "steps": trainer.global_step,
        "changed": module.resumed.history() if module.resumed is not None else [],
    }


def provenance_of(module: "SAEModule", member: Member, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the file of one exported SAE says that it is of.

    Args:
        module: the SAEs.
        member: the SAE.
        record: of the module, which is the same for all of its members.
    """
    measured = {
        name: float(value)
        for name in ("l0", "explained_variance")
        if (value := module.trainer.callback_metrics.get(str(LoggedName.of("val", name, member)))) is not None
    }
    provenance = module.members[member].provenance
    before = provenance.get("imported", provenance.get("started_from"))
    started_from = {} if before is None else {"started_from": before}
    activations, members = record["activations"], record["members"]
    own = None if activations is None else activations.get(member.part, activations[""])
    answers_at = module.targets.get(member.part)
    target = {"target": activations[answers_at]} if activations is not None and answers_at is not None else {}
    drawn = module.members[member].drawn_by_policy
    policy = {"drawn_by_policy": dict(drawn)} if drawn else {}
    of_all = {name: value for name, value in record.items() if name not in _OF_CHECKPOINTS}
    own_record = {"activations": own, **target, "member": str(member), "sae": members[str(member)], **of_all}
    return own_record | policy | {"measured": measured} | started_from


def trainer_settings(trainer: "Trainer") -> dict[str, Any]:
    """Return the settings of a trainer that decide a training."""
    values = {name: getattr(trainer, name, None) for name in _TRAINER}
    return {name: describe(value) for name, value in values.items()} | {"devices": trainer.world_size}


def refuse_other_record(module: "SAEModule", checkpoint: Mapping[str, Any], is_resumed: bool) -> list[Difference]:
    """Refuse a checkpoint of other SAEs or other activations, and for a resumed run of other data.

    Args:
        module: with its trainer.
        checkpoint: as it was loaded.
        is_resumed: whether it is trained further, not only measured.

    Returns:
        What differs and does not matter to what is refused.

    Raises:
        ValueError: names what differs.
    """
    record = checkpoint.get(KEY)
    if record is None:
        refuse_other_activations("the checkpoint", {}, None)
        return []
    if record["format_version"] > FORMAT_VERSION:
        raise ValueError(
            f"the checkpoint has format {record['format_version']}, written by sae_lightning {record[KEY]}, and this "
            f"version, {sae_lightning.__version__}, reads up to {FORMAT_VERSION}: take a newer version"
        )
    what = "the checkpoint"
    saved, own = record["members"], _members(module)
    if set(saved) != set(own):
        raise ValueError(
            f"the checkpoint has the SAEs {', '.join(saved)}, the configuration {', '.join(own)}: policies, seeds, "
            f"hooks and nulls decide that. {_FROM_RUN}"
        )
    refuse(what, [one for name in own for one in differences(saved[name], own[name], module.sae_option)], _FROM_RUN)
    if is_resumed:
        refuse(what, differences(record.get("references", {}), _references(module), "model.references"), _FROM_RUN)
    data = any_datamodule_of(module.trainer)
    if not isinstance(data, DescribedData) or record["data"] is None:
        return _trainer_changes(module, record) if is_resumed else []
    for part, activations in data.describe_activations().items():
        refuse(what, differences(record["activations"].get(part, {}), activations, "data"), _FROM_RUN)
    of_data = list(differences(record["data"], data.describe(), "data"))
    free = [one for one in of_data if one.name.split(".")[1:] and one.name.split(".")[1] in FREE_DATA]
    if not is_resumed:
        return [one for one in of_data if one not in free]
    refuse(what, [one for one in of_data if one not in free], f"{_FROM_RUN}, or start anew without ckpt_path")
    return free + _trainer_changes(module, record)


def _trainer_changes(module: "SAEModule", record: Mapping[str, Any]) -> list[Difference]:
    return list(differences(record["trainer"], trainer_settings(module.trainer), "trainer"))


def _members(module: "SAEModule") -> dict[str, Any]:
    return {
        str(member): describe(sae)
        | {"policy": dict(sae.freeze_policy)}
        | ({"answers_at": module.targets[member.part]} if module.targets else {})
        for member, sae in module.all_trained_members.items()
    }


def _references(module: "SAEModule") -> dict[str, str]:
    """Return the fingerprints of what is measured and not trained; controls follow from the data and these."""
    return {str(member): known for member, known in module.reference_fingerprints.items() if not member.part}
