"""The `data` of a check: what the user says, and for the rest what the SAE states.

An SAE of a run of this library states all of its data. A file of another library states model, hook, context length and
beginning token as far as it does; text it states by a name at most. What is missing is asked for by name.
"""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sae_lightning import datamodules
from sae_lightning.checking.data_request import DataRequest
from sae_lightning.checking.ends import (
    hooks_in_data,
    hooks_in_model,
    redrawn_modules,
    refuse_one_side,
)
from sae_lightning.checking.stated_hooks import in_model, refuse_other_cache
from sae_lightning.class_paths import current_class_paths
from sae_lightning.datamodules.activation_files import read_rows
from sae_lightning.datamodules.row_files import RowFiles
from sae_lightning.datamodules.row_split import HELDOUT_FRACTION
from sae_lightning.files import check_there
from sae_lightning.inspection.hook_names import name_in_model
from sae_lightning.members import SOURCE, TARGET
from sae_lightning.runs.run import run_of_sae
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.saes.stated import stated_of

LONGEST_CONTEXT = 1024
"""Tokens in a row, where the file states more and the user nothing: a check is to be quick."""
_DEFAULT_CONTEXT = 128
_TOKENS_A_FORWARD = 2048
N_BATCHES = 32
"""In which held-out activations are read where nothing is trained."""
_WIDE = 1024
"""From this width on Gaussian noise is matched on fewer samples a dimension."""
NULLS = ("gaussian", "shuffled", "reinitialised")
"""Names of the null data of a check."""


def data_section(request: DataRequest, sae: SparseAutoencoder, where: str, trains: bool) -> dict[str, Any]:
    """Return section `data` of the configuration of a check.

    Args:
        request: what the user says.
        sae: that is checked, or the first of several.
        where: it is from, for messages.
        trains: whether SAEs are trained in the check.

    Raises:
        ValueError: if something is missing, by its name, or what is said does not go together.
    """
    refuse_one_side(sae, where, request.target, request.activations, request.hook_input)
    if request.activations:
        return _sized(_of_files(request, sae, where, trains), request, trains)
    if request.cache:
        return _sized(_cached(request, sae, where), request, trains)
    known = _of_config(request.config) if request.config else _of_own_run(sae, where)
    section = _changed(known, request, sae, where) if known else _of_model(request, sae, where, trains)
    return _sized(section, request, trains)


def rows_of(section: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return how many rows there are to train on and how many are held out; None where they are not in files."""
    if str(section["class_path"]).rpartition(".")[2] != "ActivationFiles":
        return None
    arguments = section["init_args"]
    names = {"paths", "key", "split_key", "group_key", "heldout_fraction"}
    _, split = read_rows(**{name: value for name, value in arguments.items() if name in names})
    return len(split.train), len(split.heldout)


def nulls_of(names: Sequence[str], section: Mapping[str, Any], sae: SparseAutoencoder) -> dict[str, Any]:
    """Return argument `nulls` of a datamodule; empty where it has none. Those of a transcoder are of both its sides."""
    kind = getattr(datamodules, str(section["class_path"]).rpartition(".")[2], None)
    if kind is None or "nulls" not in inspect.signature(kind).parameters:
        return {}
    arguments = section["init_args"]
    classes: dict[str, dict[str, Any]] = {
        "gaussian": {"class_path": "GaussianMatched"},
        "shuffled": {"class_path": "ShuffledHooks" if sae.is_transcoder else "ShuffledDimensions"},
    }
    if sae.d_in + sae.is_transcoder * sae.d_out >= _WIDE:
        classes["gaussian"]["init_args"] = {"samples_per_dimension": 50}
    if "model" in arguments and "reinitialised" in names:
        classes["reinitialised"] = {"class_path": "Reinitialised"}
        if sae.is_transcoder:
            modules = redrawn_modules(str(arguments["model"]), arguments["hook"])
            classes["reinitialised"] = {"class_path": "RedrawnModules", "init_args": {"modules": modules}}
    return {name: classes[name] for name in names if name in classes}


def _of_config(path: Path) -> dict[str, Any]:
    data = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("data")
    if not isinstance(data, dict):
        raise ValueError(f"--config {path} has no `data`: expected the config.yaml of a run")
    return _section(data)


def _of_own_run(sae: SparseAutoencoder, where: str) -> dict[str, Any] | None:
    """Return the data of the run that an SAE of this library is of; None where they are not known."""
    if "imported" in sae.provenance:
        return None
    run = run_of_sae(Path(where)) if Path(where).exists() else None
    if run is not None and run.data["class_path"]:
        return _section(run.settings["data"])
    return section_of(sae.provenance)


def section_of(provenance: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return section `data` of the run that wrote this provenance; None where it does not say all of it."""
    data, activations = provenance.get("data"), provenance.get("activations")
    if not data or not activations or activations.get("null"):
        return None
    kind = getattr(datamodules, str(data.get("class")), None)
    if kind is None:
        return None
    known = {"hook", "hook_input", "model", "revision", "pretrained"}
    said = {**data, **{name: activations[name] for name in known if name in activations}}
    arguments = {name: said[name] for name in inspect.signature(kind).parameters if name in said}
    restored = {name: _restored(value) for name, value in arguments.items() if name != "nulls"}
    if target := provenance.get("target"):
        restored["hook"] = {SOURCE: activations["hook"], TARGET: target["hook"]}
    return {"class_path": str(data["class"]), "init_args": restored} if _is_whole(restored) else None


def _restored(value: Any) -> Any:
    """Return a described value as a configuration has it."""
    if isinstance(value, Mapping):
        rest = {name: _restored(item) for name, item in value.items() if name != "class"}
        return {"class_path": value["class"], "init_args": rest} if "class" in value else rest
    return [_restored(item) for item in value] if isinstance(value, list) else value


def _is_whole(value: Any) -> bool:
    """Return whether nothing in it stands for something longer, of which only a hash was kept."""
    if isinstance(value, Mapping):
        return "sha256" not in value and all(_is_whole(item) for item in value.values())
    return all(_is_whole(item) for item in value) if isinstance(value, list) else True


def _section(data: Mapping[str, Any]) -> dict[str, Any]:
    current = current_class_paths(data)
    return {"class_path": str(current["class_path"]), "init_args": dict(current.get("init_args") or {})}


def _changed(section: dict[str, Any], request: DataRequest, sae: SparseAutoencoder, where: str) -> dict[str, Any]:
    """Put what the user says in place of what the run says."""
    hook: Any = request.hook
    if sae.is_transcoder and section["init_args"].get("d_answer") is None:  # synthetic data have no hooks
        hook = hooks_in_data(section["init_args"].get("hook"), request.hook, request.target, sae, where)
    given = {
        "model": request.model,
        "hook": hook,
        "hook_input": request.hook_input or None,
        "text": _files(request.text, 2) if request.text else None,
        "context_length": request.context_length,
        "bos_in_every_row": request.bos_in_every_row,
        "skip_first_positions": request.skip_first_positions,
        "dtype": request.dtype,
    }
    given = {name: value for name, value in given.items() if value is not None}
    name = section["class_path"].rpartition(".")[2]
    kind = getattr(datamodules, name, None)
    known = given if kind is None else inspect.signature(kind).parameters
    if unknown := [f"--{option}" for option in given if option not in known]:
        raise ValueError(
            f"the data are those of its run, of {name}, which takes no {', '.join(unknown)}: leave out what is of a "
            "model"
        )
    arguments = {**section["init_args"], **given}
    if request.model and "tokenizer" not in section["init_args"]:
        arguments.pop("tokenizer", None)
    return {**section, "init_args": arguments}


def _of_model(request: DataRequest, sae: SparseAutoencoder, where: str, trains: bool) -> dict[str, Any]:
    stated = stated_of(sae.provenance)
    model = request.model or stated.get("model")
    missing = [] if model else ["--model, the language model that it reads"]
    if not request.hook and not stated.get("hook"):
        missing.append("--hook, the submodule that it reads (sae hooks MODEL lists them)")
    if sae.is_transcoder and not request.target and not stated.get("target"):
        missing.append("--target, the submodule at which it answers")
    if not request.text:
        said = f"; its file says it was trained on {stated['dataset']}" if stated.get("dataset") else ""
        missing.append(f"--text, files or folders of text such as it was trained on{said}")
    if missing:
        raise ValueError(f"{where} does not state all that a check needs; give {', and '.join(missing)}")
    hook: Any
    if sae.is_transcoder:
        hook, is_input = hooks_in_model(str(model), request.hook, request.target, stated, where), False
    else:
        hook, is_input = request.hook, request.hook_input
        if not request.hook:
            hook, is_input = in_model(name_in_model, str(model), stated, where, "hook")
    length = request.context_length or min(int(stated.get("context_length") or _DEFAULT_CONTEXT), LONGEST_CONTEXT)
    begins = stated.get("prepend_bos", True) if request.bos_in_every_row is None else request.bos_in_every_row
    arguments = {
        "model": str(model),
        "hook": hook,
        "hook_input": is_input,
        "text": _files(request.text, 10 if trains else 2),
        "dtype": request.dtype or "auto",
        "context_length": length,
        "bos_in_every_row": bool(begins),
        "skip_first_positions": request.skip_first_positions or 0,
        "llm_batch_size": max(1, _TOKENS_A_FORWARD // length),
    }
    return {"class_path": "LanguageModelDataModule", "init_args": arguments}


def _cached(request: DataRequest, sae: SparseAutoencoder, where: str) -> dict[str, Any]:
    """Return the activations of a cache as data; they have a model, hook and text already."""
    if given := request.of_a_model:
        raise ValueError(f"--cache {request.cache} has its own model, hook and text: leave out {', '.join(given)}")
    refuse_other_cache(str(request.cache), sae, where)
    return {"class_path": "CachedActivations", "init_args": {"path": str(request.cache)}}


def _of_files(request: DataRequest, sae: SparseAutoencoder, where: str, trains: bool) -> dict[str, Any]:
    """Return activations in files as data; as many are held out as where an SAE of ours was trained on such files."""
    given = [*request.of_a_model, *(["--cache"] if request.cache else [])]
    if given:
        raise ValueError(
            f"--activations {request.activations} are read without a model and text: leave out {', '.join(given)}"
        )
    try:
        rows = RowFiles(str(request.activations), request.key)
    except ValueError as error:
        raise ValueError(f"--activations {request.activations}: {error}") from error
    if rows.d_in != sae.d_in:
        raise ValueError(
            f"--activations {request.activations} has rows of width {rows.d_in} and {where} reads {sae.d_in}: give "
            "activations of the model and hook that it was trained on"
        )
    own = sae.provenance.get("data") or {}
    usual = HELDOUT_FRACTION if trains else 0.5
    fraction = own.get("heldout_fraction", usual) if own.get("class") == "ActivationFiles" else usual
    key = {"key": request.key} if request.key else {}
    arguments = {"paths": str(request.activations), **key, "heldout_fraction": fraction}
    return {"class_path": "ActivationFiles", "init_args": arguments}


def _files(paths: Sequence[str], heldout_every: int) -> dict[str, Any]:
    check_there("--text", list(paths))
    return {"class_path": "FileText", "init_args": {"paths": list(paths), "heldout_every": heldout_every}}


def _sized(section: dict[str, Any], request: DataRequest, trains: bool) -> dict[str, Any]:
    """Return the data with as many held-out activations as the check measures on, and without nulls.

    Where nothing is trained batches are small: they are what intervals of explained variance are over.
    """
    kind = getattr(datamodules, section["class_path"].rpartition(".")[2], None)
    sizes = {"val_samples": request.n_tokens, "loss_samples": request.n_tokens}
    has = inspect.signature(kind).parameters if kind is not None else sizes
    arguments = {**section["init_args"], **{name: value for name, value in sizes.items() if name in has}}
    most = request.n_tokens if trains else max(1, request.n_tokens // N_BATCHES)
    arguments["batch_size"] = min(int(arguments.get("batch_size") or _TOKENS_A_FORWARD), most)
    arguments.pop("nulls", None)
    return {**section, "init_args": arguments}
