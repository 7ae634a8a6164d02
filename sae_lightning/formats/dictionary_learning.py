"""SAEs of dictionary_learning: `ae.pt`, the state_dict of one of seven classes, beside the trainer's `config.json`.

The class is the trainer's `dict_class`, and has to fit the names of the tensors, which decide where there is no
configuration. Checkpoints are `checkpoints/ae_<step>.pt`. Two nested files exist: the backup of a running training,
whose SAE takes activations divided by `norm_factor`, and a state_dict beside `act_mean`, which was subtracted outside.

Scales of the data are folded into biases and thresholds, so latents are in raw units and decoder rows keep their norms.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sae_lightning.formats.b_dec import encoding_with
from sae_lightning.formats.dictionary_learning_classes import CLASSES, STATED, DictClass, class_name
from sae_lightning.formats.dictionary_learning_export import writable, write
from sae_lightning.formats.place import Place
from sae_lightning.formats.stored import StoredSAE
from sae_lightning.formats.taking import take
from sae_lightning.formats.threshold import with_threshold
from sae_lightning.formats.weight_files import TORCH

__all__ = ["NAME", "TITLE", "read", "reads", "writable", "write"]

NAME, TITLE = "dictionary_learning", "dictionary_learning"

_WEIGHTS_NAME = re.compile(r"ae(_\w+)?\.pt")
_TELLING = ("encoder.weight", "W_enc", "ae", "state_dict")
_NOT_ALONE = ("AutoEncoderNew", "JumpReluAutoEncoder")
"""Whose names of tensors other programs use as well."""
_CHANGES_INPUT = re.compile(r"mean|std|scale|norm|factor")


def reads(place: Place) -> bool:
    """Return whether there is an `ae.pt` or a checkpoint, or a torch file beside the configuration of a trainer."""
    named = [path for path in place.weight_files if _WEIGHTS_NAME.fullmatch(path.name)]
    if named:
        return any(key in place.read(named[0]) for key in _TELLING)
    path = place.only_weights(*TORCH)
    if path is None or not (place.path.is_file() or _trainer(_config(place))):
        return False
    content = place.read(path)
    nested = next((content[key] for key in ("ae", "state_dict") if isinstance(content.get(key), dict)), content)
    fitting = [name for name, one in CLASSES.items() if one.fits(set(nested))]
    return any(name not in _NOT_ALONE or name == _dict_class(_trainer(_config(place))) for name in fitting)


def read(place: Place, assumed: Mapping[str, Any]) -> StoredSAE:
    """Read any of the seven classes.

    Raises:
        ValueError: if it is another class, a crosscoder or a transcoder, or has no threshold where it needs one.
    """
    path, config = _weights_path(place), _config(place)
    content = place.read(path)
    file = _unnest(path, content)
    trainer = _trainer(config) or file.trainer
    config = config or ({"trainer": dict(trainer)} if trainer else {})
    _refuse_two_streams(path, trainer, config.get("buffer") or {})
    name = class_name(path, set(file.tensors), _dict_class(trainer), assumed.get("variant"))
    stored = _stored(path, CLASSES[name], file.tensors, trainer, assumed)
    if (
        name in ("AutoEncoderTopK", "BatchTopKSAE")
        and not _dict_class(trainer)
        and stored.variant == assumed["variant"]
    ):
        stored = replace(stored, assumed={**stored.assumed, "variant": stored.variant})
    stored = replace(stored, config=config, stated={**_stated(path, config, file.step), **stored.stated})
    return _unit_norm_note(name, _fold(stored, file))


# Files
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _File:
    """The SAE in a file: its tensors, what they expect of activations, and what else the file says."""

    tensors: Mapping[str, Any]
    trainer: Mapping[str, Any]
    norm_factor: float = 1.0
    mean: Tensor | None = None
    step: int | None = None


def _config(place: Place) -> dict[str, Any]:
    """Return the trainer's configuration, which lies beside the SAE or above its checkpoints."""
    return place.config("config.json", *(["../config.json"] if place.folder.name == "checkpoints" else []))


def _trainer(config: Mapping[str, Any]) -> Mapping[str, Any]:
    trainer = config.get("trainer")
    return trainer if isinstance(trainer, Mapping) else {}


def _dict_class(trainer: Mapping[str, Any]) -> str:
    """Return the name of the class; some versions wrote <class 'module.Name'>."""
    return (re.findall(r"\w+", str(trainer.get("dict_class") or "")) or [""])[-1]


def _weights_path(place: Place) -> Path:
    named = [path for path in place.weight_files if _WEIGHTS_NAME.fullmatch(path.name)]
    path = place.weights("ae.pt", "ae_final.pt") or (named[0] if len(named) == 1 else place.only_weights(*TORCH))
    if path is None:
        names = ", ".join(one.name for one in named[:12])
        raise ValueError(f"{place} holds the SAE at several steps of its training: name one of {names}")
    return path


def _unnest(path: Path, content: Mapping[str, Any]) -> _File:
    """Return the SAE of a flat or nested file.

    Raises:
        ValueError: if something beside the weights may change what they compute.
    """
    if isinstance(content.get("ae"), dict):
        trainer = content.get("config")
        factor = content.get("norm_factor")
        factor = 1.0 if factor is None else float(factor)
        if not 0 < factor < float("inf"):
            raise ValueError(
                f"{path}: norm_factor={factor}, expected a number above 0 that activations were divided by"
            )
        return _File(content["ae"], trainer if isinstance(trainer, dict) else {}, factor, step=content.get("step"))
    if not isinstance(content.get("state_dict"), dict):
        return _File(content, {})
    known = ("state_dict", "cfg", "config", "act_mean")
    others = [str(key) for key in content if key not in known]
    unclear = [key for key in others if isinstance(content[key], Tensor) or _CHANGES_INPUT.search(key)]
    if unclear:
        raise ValueError(
            f"{path} has {', '.join(unclear)} beside the weights, and does not say how they enter: fold them into the "
            "biases and save the state_dict alone as ae.pt"
        )
    settings = content.get("cfg", content.get("config"))
    settings = settings if isinstance(settings, dict) else {}
    return _File(content["state_dict"], _trainer(settings) or settings, mean=content.get("act_mean"))


def _refuse_two_streams(path: Path, trainer: Mapping[str, Any], buffer: Mapping[str, Any]) -> None:
    width, stream = trainer.get("activation_dim"), buffer.get("d_submodule")
    if isinstance(width, int) and isinstance(stream, int) and width != stream:
        raise ValueError(
            f"{path} is a crosscoder or of a fork (activation_dim={width}, d_submodule={stream}): this library has no "
            "variant for it"
        )
    if buffer.get("io") == "in_and_out":
        raise ValueError(
            f"{path} is a transcoder (io=in_and_out): of dictionary_learning SAEs alone are read; transcoders are read "
            "from files of SAELens, sparsify, Gemma Scope, Llama Scope and Llamascopium"
        )


# Tensors
# --------------------------------------------------------------------------------------------------------------------


def _stored(
    path: Path, kind: DictClass, tensors: Mapping[str, Any], trainer: Mapping[str, Any], assumed: Mapping[str, Any]
) -> StoredSAE:
    """Return the SAE as the tensors have it."""
    if any(isinstance(value, Tensor) and value.dim() > 2 for value in tensors.values()):
        raise ValueError(f"{path} is a crosscoder, its weights have a third axis: this library has no variant for it")
    d_in, d_sae = trainer.get("activation_dim"), trainer.get("dict_size")
    taken, dtype = take(path, tensors, kind.layout, d_in=d_in, d_sae=d_sae, ignored=kind.numbers)
    stored = StoredSAE(NAME, kind.variant, taken, {"apply_b_dec_to_input": kind.subtracts_b_dec}, dtype=dtype)
    if kind.variant == "JumpReLU":
        return _jump_relu(stored, assumed)
    if not kind.numbers:
        return stored
    stored = _with_k(path, stored, tensors, trainer, assumed)
    if kind.variant == "TopK":
        return stored
    threshold = _number(path, tensors, "threshold") if "threshold" in tensors else None
    return with_threshold(path, _with_groups(path, stored, tensors), threshold, assumed, TITLE)


def _jump_relu(stored: StoredSAE, assumed: Mapping[str, Any]) -> StoredSAE:
    threshold, folds, notes = stored.tensors["threshold"], stored.folds, stored.notes
    if (n := int((threshold < 0).sum())) > 0:
        folds = (*folds, f"{n} thresholds below 0 became 0, the same since latents are rectified")
        stored = replace(stored, tensors={**stored.tensors, "threshold": threshold.clamp_min(0)}, folds=folds)
    if "apply_b_dec_to_input" in assumed:
        said = {"apply_b_dec_to_input": assumed["apply_b_dec_to_input"]}
        return replace(stored, settings=said, assumed=said)
    note = (
        "the file does not say whether b_dec is subtracted before encoding; JumpReluAutoEncoder does not, unless its "
        "attribute apply_b_dec_to_input is set: then assume apply_b_dec_to_input=true"
    )
    return replace(stored, notes=(*notes, note))


def _with_k(
    path: Path, stored: StoredSAE, tensors: Mapping[str, Any], trainer: Mapping[str, Any], assumed: Mapping[str, Any]
) -> StoredSAE:
    in_file = None if "k" not in tensors else int(_number(path, tensors, "k"))
    in_config = trainer.get("k")
    if in_file is not None and in_config is not None and in_file != in_config:
        raise ValueError(
            f"{path}: the configuration says k={in_config} and the weights k={in_file}: the two do not belong together"
        )
    k = in_config if in_file is None else in_file
    if k is None and "k" not in assumed:
        raise ValueError(f"{path}: a {stored.variant} needs k, and neither weights nor config.json say it: assume k=32")
    if k is None:
        k, stored = assumed["k"], replace(stored, assumed={**stored.assumed, "k": assumed["k"]})
    return replace(stored, settings={**stored.settings, "k": k}, stated={"k": k})


def _with_groups(path: Path, stored: StoredSAE, tensors: Mapping[str, Any]) -> StoredSAE:
    if stored.variant != "MatryoshkaBatchTopK":
        return stored
    sizes = torch.as_tensor(tensors["group_sizes"]).flatten().tolist()
    if sum(sizes) != stored.d_sae or min(sizes) < 1:
        raise ValueError(
            f"{path}: group_sizes={sizes}, expected sizes of one or more with the sum d_sae={stored.d_sae}"
        )
    return replace(stored, settings={**stored.settings, "group_fractions": [size / stored.d_sae for size in sizes]})


def _number(path: Path, tensors: Mapping[str, Any], name: str) -> float:
    value = torch.as_tensor(tensors[name])
    if value.numel() != 1:
        raise ValueError(f"{path}: {name} has the shape {list(value.shape)}, expected one number")
    return float(value)


# What the file says, and folds
# --------------------------------------------------------------------------------------------------------------------


def _stated(path: Path, config: Mapping[str, Any], step: int | None) -> dict[str, Any]:
    trainer, buffer = _trainer(config), config.get("buffer") or {}
    stated = {ours: trainer[theirs] for theirs, ours in STATED.items() if trainer.get(theirs) is not None}
    checkpoint = re.fullmatch(r"ae_(\d+)\.pt", path.name)
    steps = int(checkpoint[1]) if checkpoint else trainer.get("steps") if step is None else step
    batch_size, length = buffer.get("out_batch_size"), buffer.get("ctx_len")
    if length is not None:
        stated["context_length"] = length
    if batch_size is not None:
        stated["batch_size"] = batch_size
        if steps is not None:
            stated["tokens"] = steps * batch_size
    return stated


def _fold(stored: StoredSAE, file: _File) -> StoredSAE:
    """Return an SAE of raw activations."""
    tensors, folds, stated = dict(stored.tensors), stored.folds, dict(stored.stated)
    if file.norm_factor != 1:
        for name in {"b_enc", "b_dec", "b_mag", "threshold"} & (set(tensors) - set(stored.assumed)):
            tensors[name] = (tensors[name].double() * file.norm_factor).float()
        stated["input_scale"] = 1 / file.norm_factor
        folds = (
            *folds,
            f"biases and thresholds times norm_factor={file.norm_factor:g}, which activations were divided by",
        )
    if file.mean is not None:
        mean = torch.as_tensor(file.mean).double().flatten()
        if list(mean.shape) != [stored.d_in] or not torch.isfinite(mean).all():
            raise ValueError(f"act_mean has the shape {list(mean.shape)}, expected [d_in={stored.d_in}] finite numbers")
        if not stored.settings["apply_b_dec_to_input"]:
            tensors = encoding_with(tensors, -mean)
        tensors["b_dec"] = (tensors["b_dec"].double() + mean).float()
        folds = (*folds, "act_mean, which was subtracted from activations outside the SAE, went into the biases")
    return replace(stored, tensors=tensors, folds=folds, stated=stated)


def _unit_norm_note(name: str, stored: StoredSAE) -> StoredSAE:
    if name != "AutoEncoder" or stored.has_unit_norm_decoder:
        return stored
    note = (
        "decoder rows are not of unit norm and are kept so; AutoEncoder.from_pretrained of dictionary_learning "
        "rescales them unless told normalize_decoder=False, and its latents are then these times the norms"
    )
    return replace(stored, notes=(*stored.notes, note))
