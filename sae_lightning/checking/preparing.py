"""From what the user asks for to a `Plan`: data, inspection, cost, the re-make and the configuration."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from sae_lightning.checking import cost
from sae_lightning.checking.budget import Budget
from sae_lightning.checking.configuration import as_yaml, configuration, new_control, policies_for, quick_evaluators
from sae_lightning.checking.data import N_BATCHES, NULLS, data_section, nulls_of, rows_of
from sae_lightning.checking.data_request import DataRequest
from sae_lightning.checking.ends import ends_of, targets_of
from sae_lightning.checking.plan import CheckedSAE, Plan
from sae_lightning.checking.remake import Remake
from sae_lightning.checking.text_hash import text_of
from sae_lightning.checking.training import Training, begun_training, training_of
from sae_lightning.controls import Control
from sae_lightning.controls.base import width_in_words
from sae_lightning.datamodules import ActivationDataModule, ActivationFiles
from sae_lightning.datamodules.from_settings import make_datamodule
from sae_lightning.datamodules.row_files import RowFiles
from sae_lightning.datamodules.row_split import Numbers, take
from sae_lightning.inspection.inspecting import inspect_on_model
from sae_lightning.inspection.report import Inspection
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.saes.fingerprint import fingerprint
from sae_lightning.saes.saving import tensors_to_save

_N_COMPARED, _SAME_NORM = 4096, 0.9
"""Rows whose norms are compared, and the ratio of two means above which they are the same."""
READ_FOLDER = Path("lightning_logs") / "check" / "read"
"""Where an SAE is kept of which the user said what its file does not, in the format of this library."""


@dataclass(frozen=True)
class CheckRequest:
    """What the user asks for.

    Args:
        data: model, hook and text.
        budget: for training.
        command: as it was typed.
        names: of the SAEs, by where they are from.
        controls: by name.
        draws: of each control that is random.
        control_samples: activations that controls are made from.
        evaluators: beside the default ones; None for those of a quick check.
        nulls: null data by name, or names of them.
        seeds: of what is trained.
        assumed: what files do not say of the SAEs.
    """

    data: DataRequest
    budget: Budget
    command: str
    names: Mapping[str, str]
    controls: Mapping[str, Any]
    draws: int = 3
    control_samples: int = 65_536
    evaluators: Sequence[Mapping[str, Any]] | None = None
    nulls: Mapping[str, Any] | Sequence[str] = NULLS
    seeds: Sequence[int] = (0, 1, 2)
    assumed: Mapping[str, Any] = field(default_factory=dict)

    def nulls_on(self, section: Mapping[str, Any], sae: SparseAutoencoder) -> dict[str, Any]:
        """Return argument `nulls` of these data; none where SAEs are trained, which would be on null data, too."""
        if self.budget.trains:
            return {}
        if isinstance(self.nulls, Mapping):
            return dict(self.nulls)
        return nulls_of(self.nulls, section, sae)


def fitted_to_rows(request: CheckRequest, saes: Mapping[str, SparseAutoencoder]) -> CheckRequest:
    """Ask for no more activations than there are, where they are in files.

    Args:
        request: of the user.
        saes: by where they are from.
    """
    (where, sae), *_ = saes.items()
    rows = rows_of(data_section(request.data, sae, where, request.budget.trains))
    if rows is None:
        return request
    n_train, n_heldout = rows
    whole_batches = n_heldout - n_heldout % N_BATCHES if n_heldout > N_BATCHES else n_heldout
    n_tokens = min(request.data.n_tokens, whole_batches)
    control_samples = min(request.control_samples, n_train)
    return replace(request, data=replace(request.data, n_tokens=n_tokens), control_samples=control_samples)


@dataclass(frozen=True)
class _Measured:
    """The data of a check, and what was measured on them before it starts."""

    section: Mapping[str, Any]
    datamodule: ActivationDataModule
    inspections: Mapping[str, Inspection]
    ends: tuple[str, str] | None


def settings_of(
    request: CheckRequest, saes: Mapping[str, SparseAutoencoder], remake: Remake | None = None
) -> dict[str, Any]:
    """Return the configuration of a check.

    Args:
        request: of the user.
        saes: by where they are from, as the user typed it.
        remake: what is trained.
    """
    request = fitted_to_rows(request, saes)
    (where, sae), *_ = saes.items()
    section = data_section(request.data, sae, where, request.budget.trains)
    section["init_args"] |= _training_sizes(section, remake) if remake is not None else {}
    if nulls := request.nulls_on(section, sae):
        section["init_args"]["nulls"] = nulls
    references = {request.names[place]: _readable(place, own, request.assumed) for place, own in saes.items()}
    targets = targets_of(ends, list(nulls)) if (ends := ends_of(section, sae)) is not None else {}
    return configuration(
        {f"{part}/{name}": place for part in targets for name, place in references.items()} or references,
        section,
        quick_evaluators(section) if request.evaluators is None else request.evaluators,
        request.controls,
        request.draws,
        request.control_samples,
        remake,
        request.seeds,
        targets,
        policies_for(sae),
    )


def plan_of(
    request: CheckRequest,
    saes: Mapping[str, SparseAutoencoder],
    where: str,
    begun: Mapping[str, Any] | None = None,
    say: Callable[[str], object] = print,
) -> Plan:
    """Return the plan of a check: inspect the SAEs, tell the cost, and settle what depends on either.

    Args:
        request: of the user.
        saes: by where they are from.
        where: its files go, for the message.
        begun: configuration of the same check that was begun before, which it goes on with.
        say: prints a message.

    Raises:
        ValueError: if it needs more memory than there is.
    """
    request = fitted_to_rows(request, saes)
    measured = _measured(request, saes, say)
    checked = tuple(
        CheckedSAE(request.names[place], place, sae, request.assumed, measured.inspections[place])
        for place, sae in saes.items()
    )
    target = measured.ends[1] if measured.ends is not None else ""
    machine = cost.measure(measured.datamodule, max(saes.values(), key=lambda sae: sae.d_sae), target)
    controls, notes = _possible(request.controls, checked)
    request = replace(request, controls={name: request.controls[name] for name in controls})
    sizes = _sizes(request, checked, measured, controls)
    if begun is None:
        sizes, made_smaller = cost.fitted(sizes, machine)
        notes += made_smaller
        request = replace(request, draws=sizes.draws, control_samples=sizes.control_samples)
    remake = None
    if (training := _training(request, checked, sizes, machine, begun)) is not None:
        remake, notes = training.remake, [*notes, *training.notes]
        request = replace(request, budget=training.budget, seeds=training.seeds)
        trained = len(policies_for(checked[0].sae)) * len(training.seeds)
        sizes = replace(sizes, trained=trained, train_tokens=training.budget.tokens or 0)
    notes = [*_notes_on_rows(measured.datamodule, request.budget.tokens), *notes]
    settings = dict(begun) if begun is not None else settings_of(request, saes, remake)
    if begun is None:
        say(cost.summary(sizes, cost.estimate(sizes, machine), machine, where))
        for note in notes:
            say(note)
    datamodule = measured.datamodule
    return Plan(
        checked,
        settings,
        request.budget,
        request.command,
        text_of(datamodule, request.data.n_tokens),
        _described(datamodule, measured.ends),
        datamodule.describe(),
        datamodule.massive.max_norm_ratio if datamodule.massive is not None else None,
        remake,
        tuple(notes),
        measured.ends[0] if measured.ends is not None else "",
    )


def _described(datamodule: ActivationDataModule, ends: tuple[str, str] | None) -> dict[str, Any]:
    """Return what decides the activations, of a transcoder those that it reads and the hook at which it answers."""
    own = datamodule.describe_activations()
    return own[""] if ends is None else own[ends[0]] | {"target": own[ends[1]].get("hook")}


def _notes_on_rows(datamodule: ActivationDataModule, tokens: int | None) -> list[str]:
    """Say what activations in files leave open, and whether those that are held out are like the others."""
    if not isinstance(datamodule, ActivationFiles):
        return []
    rows, split, n_train = datamodule.rows, datamodule.split, datamodule.n_train
    last = "The last " if isinstance(split.heldout, range) else ""
    notes = [
        f"The activations have no model beside them: its loss is not measured. {last}{len(split.heldout):,} of "
        f"{len(rows):,} rows are held out."
    ]
    norms = [_mean_norm(rows, side) for side in (split.train, split.heldout)]
    if not min(norms) > _SAME_NORM * max(norms):
        notes.append(
            f"The mean norm of held-out rows is {norms[1]:.4g} and of the others {norms[0]:.4g}: the file seems to be "
            "sorted, and controls are made from other activations than they are measured on; shuffle it, whole texts "
            "at a time."
        )
    if tokens is not None and tokens > n_train:
        notes.append(f"The re-make reads the {n_train:,} training rows {tokens / n_train:.1f} times.")
    return notes


def _mean_norm(rows: RowFiles, numbers: Numbers) -> float:
    """Return the mean norm of the rows of these numbers, of a few thousand that are evenly spaced."""
    chosen = take(numbers, torch.arange(0, len(numbers), -(-len(numbers) // _N_COMPARED)))
    return float(rows[chosen].norm(dim=1).mean())


def yaml_of(settings: Mapping[str, Any]) -> str:
    """Return a configuration as text, with the command that runs it."""
    command = "fit" if settings["model"]["init_args"]["policies"] else "validate"
    return as_yaml(settings, f"sae {command} --config FILE")


def _readable(place: str, sae: SparseAutoencoder, assumed: Mapping[str, Any]) -> str:
    """Return where an SAE can be read without being told anything."""
    if not assumed:
        return place
    folder = READ_FOLDER / fingerprint(tensors_to_save(sae))
    if not (folder / "sae.json").is_file():
        sae.save(folder)
    return str(folder.absolute())


def _measured(request: CheckRequest, saes: Mapping[str, SparseAutoencoder], say: Callable[[str], object]) -> _Measured:
    (first, sae), *_ = saes.items()
    section = data_section(request.data, sae, first, request.budget.trains)
    datamodule = _datamodule(section)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    datamodule.source.to(device)
    ends = ends_of(section, sae)
    inspections = {}
    for where, one in saes.items():
        _check_widths(one, where, datamodule, ends)
        if "imported" not in one.provenance:
            datamodule.refuse_sae_of_others(one, where, *(ends or ()))
        one.to(device)
        inspections[where] = inspect_on_model(one, where, datamodule, _hooks_of(section), _at_hooks(section, device))
        for sentence in inspections[where].verdict():
            say(f"{where}: {sentence}")
    return _Measured(section, datamodule, inspections, ends)


def _check_widths(
    sae: SparseAutoencoder, where: str, datamodule: ActivationDataModule, ends: tuple[str, str] | None
) -> None:
    """Refuse activations of other widths than an SAE, or either side of a transcoder, has."""
    sides = [("d_in", sae.d_in, "its hook", datamodule.d_in)]
    if ends is not None:
        widths, hooks = datamodule.widths, ("its source", "its target")
        own = zip(("d_in", "d_out"), (sae.d_in, sae.d_out), hooks, ends, strict=True)
        sides = [(name, width, hook, widths[end]) for name, width, hook, end in own]
    for name, width, hook, here in sides:
        if here != width:
            raise ValueError(
                f"{where} has {name}={width}, and the activations at {hook} have {here}: give the model and hook that "
                "it was trained on"
            )


def _datamodule(section: Mapping[str, Any], **arguments: Any) -> ActivationDataModule:  # noqa: ANN401
    import sae_lightning.pocket  # noqa: F401 - its classes are found by name

    datamodule = make_datamodule(section, arguments=arguments, is_of_run=False)
    assert datamodule is not None  # any kind will do
    return datamodule


def _hooks_of(section: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the hook of the data, or both; empty where they have none."""
    hook = section["init_args"].get("hook")
    return (hook,) if isinstance(hook, str) else tuple(hook.values()) if isinstance(hook, Mapping) else ()


def _at_hooks(section: Mapping[str, Any], device: torch.device) -> Callable[..., ActivationDataModule] | None:
    """Return what makes the same data at another hook, or two; None where they have none."""
    if not _hooks_of(section):
        return None

    def others(*hooks: str) -> ActivationDataModule:
        known = section["init_args"]["hook"]
        hook = dict(zip(known, hooks, strict=True)) if isinstance(known, Mapping) else hooks[0]
        datamodule = _datamodule(section, hook=hook)
        datamodule.source.to(device)
        return datamodule

    return others


def _sizes(
    request: CheckRequest, checked: Sequence[CheckedSAE], measured: _Measured, controls: Mapping[str, Control]
) -> cost.Sizes:
    return cost.Sizes(
        [(one.sae, one.l0) for one in checked],
        controls,
        request.draws,
        request.control_samples,
        request.data.n_tokens,
        len(request.nulls_on(measured.section, checked[0].sae)),
        cost.model_bytes(measured.datamodule.source),
        len(policies_for(checked[0].sae)) * len(request.seeds) if request.budget.trains else 0,
    )


def _possible(controls: Mapping[str, Any], checked: Sequence[CheckedSAE]) -> tuple[dict[str, Control], list[str]]:
    """Return the controls that these SAEs can have at their l0, and a note for each reason why others are left out.

    Raises:
        ValueError: if a control is none of this library.
    """
    possible: dict[str, Control] = {}
    names_by_reason: dict[str, list[str]] = {}
    for name, settings in controls.items():
        control = new_control(settings)
        if reason := next((reason for one in checked if (reason := _why_not(control, one))), None):
            names_by_reason.setdefault(reason, []).append(name)
        else:
            possible[name] = control
    return possible, [f"Left out: {', '.join(names)}, {reason}." for reason, names in names_by_reason.items()]


def _why_not(control: Control, one: CheckedSAE) -> str | None:
    """Return why there is no such control of an SAE; None where there is one."""
    most = control.most_l0(one.sae)
    if one.l0 > most:  # in words without the class, which several controls have in common
        return f"of which at most {most} latents can be active, since {width_in_words(one.sae)}, and l0 is {one.l0:.4g}"
    try:
        control.check(one.sae, one.l0)
    except ValueError as error:
        return str(error)
    return None


def _training(
    request: CheckRequest,
    checked: Sequence[CheckedSAE],
    sizes: cost.Sizes,
    machine: cost.Machine,
    begun: Mapping[str, Any] | None,
) -> Training | None:
    """Return what is trained; None for nothing."""
    if not request.budget.trains:
        return None
    [one] = checked
    if begun is not None:
        return begun_training(request.budget, one, len(request.seeds), begun)
    return training_of(request.budget, one, request.seeds, sizes, machine)


def _training_sizes(section: Mapping[str, Any], remake: Remake) -> dict[str, Any]:
    """Return the arguments of the data that a training needs."""
    batch = remake.batch_size
    given = section["init_args"]
    forward = int(given.get("llm_batch_size") or 32) * int(given.get("context_length") or 128)
    held_out = int(given.get("val_samples") or batch)
    batch = min(batch, held_out)
    buffer = max(int(given.get("buffer_samples") or 65_536), batch + 2 * forward)
    sizes = {"train_samples": max(remake.budget_tokens, batch), "batch_size": batch}
    return sizes if rows_of(section) else {**sizes, "buffer_samples": buffer}
