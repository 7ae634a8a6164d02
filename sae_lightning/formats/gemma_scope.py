"""Gemma Scope 1, params.npz, and Gemma Scope 2, params.safetensors with config.json: JumpReLU SAEs of Google DeepMind.

    latents = pre_acts where pre_acts > threshold, pre_acts = x W_enc + b_enc      x_hat = latents W_dec + b_dec

`b_dec` is not subtracted from the input, and activations are not normalised. Names are in upper case in the first and
in lower case in the second; both are read. What a params.npz is of, only the names of its folders and its repository
say: gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71. Transcoders have the same tensors as SAEs, those of the
second perhaps a linear path x affine_skip_connection, [d_in, d_out], beside the latents.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from sae_lightning.formats.b_dec import with_b_dec_subtracted
from sae_lightning.formats.place import Place
from sae_lightning.formats.stored import StoredSAE, transcoder_settings
from sae_lightning.formats.taking import of_transcoder, take
from sae_lightning.whole_files import whole_file

NAME, TITLE = "gemma_scope", "Gemma Scope"
FIRST, SECOND, CONFIG = "params.npz", "params.safetensors", "config.json"
_LAYOUT = {
    name: (name, shape)
    for name, shape in {"W_enc": "d m", "W_dec": "m d", "b_enc": "m", "b_dec": "d", "threshold": "m"}.items()
}
_AFFINE = "affine_skip_connection"
_HOOKS_1 = {
    "res": {"hook": "blocks.{}.hook_resid_post"},
    "mlp": {"hook": "blocks.{}.hook_mlp_out"},
    "att": {"hook": "blocks.{}.attn.hook_z"},
    "transcoders": {"hook": "blocks.{}.ln2.hook_normalized", "target": "blocks.{}.hook_mlp_out"},
}
_MLP_IN = "model.layers.{}.pre_feedforward_layernorm.output"
_MLP_OUT = "model.layers.{}.post_feedforward_layernorm.output"
_HOOKS_2 = {
    "resid_post": {"hook": "model.layers.{}.output"},
    "attn_out": {"hook": "model.layers.{}.self_attn.o_proj.input"},
    "mlp_out": {"hook": _MLP_OUT},
    "transcoder": {"hook": _MLP_IN, "target": _MLP_OUT},
}
"""By the folder above; only where there is no config.json."""
_WRITTEN = ("JumpReLU", "BatchTopK", "MatryoshkaBatchTopK")


def reads(place: Place) -> bool:
    """Return whether there is a file of one of both, with an encoder or a decoder."""
    return any({"w_enc", "w_dec"} & {name.lower() for name in place.tensors(one)} for one in _files(place))


def read(place: Place, assumed: Mapping[str, Any]) -> StoredSAE:
    """Read an SAE or a transcoder of either release.

    Raises:
        ValueError: if it is neither, or cannot be told which, or its files are damaged.
    """
    path, *others = _files(place)
    if others:
        raise ValueError(f"{place} has {path.name} and {others[0].name}, of Gemma Scope 1 and 2: name one of the files")
    return _read_first(place, path) if path.name == FIRST else _read_second(place, path, assumed)


def writable(stored: StoredSAE) -> StoredSAE:
    """Return the SAE as params.npz has it, a JumpReLU; what that changes is named in `folds`.

    Raises:
        ValueError: if the format cannot express it.
    """
    if stored.variant not in _WRITTEN:
        raise ValueError(
            f"Gemma Scope has SAEs with thresholds ({', '.join(_WRITTEN)}), and this is a {stored.variant}: write it "
            "in the format of SAELens"
        )
    if stored.settings.get("input_norm"):
        raise ValueError(
            f"this SAE has input_norm={stored.settings['input_norm']}, and Gemma Scope does not normalise activations: "
            "write it in the format of SAELens"
        )
    if stored.is_transcoder:
        raise ValueError("a params.npz does not say whether it is a transcoder: write it in the format of SAELens")
    threshold = stored.tensors["threshold"]
    if threshold.isnan().any():
        raise ValueError(f"this {stored.variant} has no threshold yet: train it for a step before it is written")
    if not threshold.dim():
        tensors = {**stored.tensors, "threshold": threshold.expand(stored.d_sae).contiguous()}
        fold = f"the threshold of the {stored.variant}, {float(threshold):.6g}, stands for each latent of a JumpReLU"
        stored = replace(stored, variant="JumpReLU", tensors=tensors, folds=(*stored.folds, fold))
    return with_b_dec_subtracted(stored, False)


def write(stored: StoredSAE, folder: Path) -> list[Path]:
    """Write params.npz of Gemma Scope 1.

    Raises:
        ValueError: if the format cannot express the SAE.
    """
    stored = writable(stored)
    path = folder / FIRST
    arrays: dict[str, Any] = {name: stored.tensors[name].numpy() for name in _LAYOUT}
    with whole_file(path) as part, part.open("wb") as file:  # a name without .npz would get it
        np.savez(file, **arrays)
    return [path]


def _files(place: Place) -> list[Path]:
    return [one for one in place.weight_files if one.name in (FIRST, SECOND)]


def _read_first(place: Place, path: Path) -> StoredSAE:
    where = place.folder.absolute().as_posix()
    release = _last(r"gemma-scope-(\d+b)-(pt|it)-(res|mlp|att|transcoders)", where)
    layout = of_transcoder(_LAYOUT) if release and release[3] == "transcoders" else _LAYOUT
    tensors, dtype, folds = _take(place, path, layout, {})
    numbers = {"layer": _last(r"/layer_(\d+)(?=/|$)", where), "l0": _last(r"/average_l0_(\d+)(?=/|$)", where)}
    stated: dict[str, Any] = {name: int(match[1]) for name, match in numbers.items() if match}
    notes = []
    width = _last(r"/width_(\w+)", where)
    if width and width[1] != _width(d_sae := len(tensors["W_dec"])):
        notes.append(f"its folder is called width_{width[1]}, and it has {d_sae} latents")
    if release:
        stated["model"] = f"google/gemma-2-{release[1]}" + "-it" * (release[2] == "it")
        notes.append("model and hook are those of the repository's name")
        if "layer" in stated:
            stated |= {name: hook.format(stated["layer"]) for name, hook in _HOOKS_1[release[3]].items()}
    if "/embedding/" in f"{where}/":
        notes.append(
            "it is of rows of the embedding matrix as they are stored; the model multiplies them by sqrt(d_in), and "
            "SAELens scales W_enc and W_dec for that"
        )
    return _stored(tensors, dtype, folds, stated, layout is not _LAYOUT, notes=tuple(notes))


def _read_second(place: Place, path: Path, assumed: Mapping[str, Any]) -> StoredSAE:
    config, folder = place.config(CONFIG), place.folder.absolute()
    layer = re.match(r"layer_(\d+)_", folder.name)
    stated: dict[str, Any] = {"layer": int(layer[1])} if layer else {}
    used, notes = {}, ["l0 is what its training aimed at"] if "l0" in config else []
    kind = folder.parent.name.removesuffix("_all")
    is_transcoder = _is_transcoder(config) if config else kind == "transcoder"
    if config:
        _refuse_others(place, config, is_transcoder)
        names = {"model": "model_name", "hook": "hf_hook_point_in", "l0": "l0"}
        names |= {"target": "hf_hook_point_out"} if is_transcoder else {}
        stated.update({ours: config[theirs] for ours, theirs in names.items() if config.get(theirs) is not None})
    elif kind in _HOOKS_2:
        notes.append(f"there is no {CONFIG}; what it is of is told by its folder {folder.parent.name}")
        stated.update({name: hook.format(layer[1]) for name, hook in _HOOKS_2[kind].items()} if layer else {})
    elif assumed.get("variant") == "JumpReLU":
        used["variant"] = "JumpReLU"
    else:
        raise ValueError(
            f"{place} has no {CONFIG}, and a transcoder has the same tensors as an SAE: fetch the file, or assume "
            "variant=JumpReLU if this is an SAE"
        )
    _refuse_tensors(place, path, is_transcoder)
    layout = of_transcoder(_LAYOUT) if is_transcoder else _LAYOUT
    if config.get("affine_connection", _AFFINE in place.tensors(path)):
        layout = layout | {"W_skip": (_AFFINE, "d o")}
    tensors, dtype, folds = _take(place, path, layout, config)
    return _stored(tensors, dtype, folds, stated, is_transcoder, notes=tuple(notes), assumed=used, config=config)


def _is_transcoder(config: Mapping[str, Any]) -> bool:
    """Return whether the configuration of Gemma Scope 2 is of a transcoder."""
    hooks = config.get("hf_hook_point_in"), config.get("hf_hook_point_out")
    return config.get("type") == "transcoder" or (None not in hooks and hooks[0] != hooks[1])


def _refuse_others(place: Place, config: Mapping[str, Any], is_transcoder: bool) -> None:
    """Refuse what is neither SAE nor transcoder, by the configuration of Gemma Scope 2.

    Raises:
        ValueError: says what it is.
    """
    what = None
    if config.get("type", "sae") not in ("sae", "transcoder"):
        what = f"of the type {config['type']}"
    elif config.get("affine_connection") and not is_transcoder:
        what = "an SAE with an affine connection from input to output"
    elif config.get("architecture") != "jump_relu":
        what = f"of the architecture {config.get('architecture')}"
    if what:
        raise ValueError(
            f"{place} is {what}: this library has no variant for it, of Gemma Scope 2 type sae or transcoder, jump_relu"
        )


def _refuse_tensors(place: Place, path: Path, is_transcoder: bool) -> None:
    """Refuse what is neither SAE nor transcoder, by tensors.

    Raises:
        ValueError: says what it is.
    """
    tensors = place.tensors(path)
    if _AFFINE in tensors and not is_transcoder:
        raise ValueError(f"{place} is an SAE with {_AFFINE} from input to output: this library has no variant for it")
    if any(tensor.dim() > 2 for tensor in tensors.values()):
        raise ValueError(
            f"{place} is a cross-layer transcoder or crosscoder, whose weights have an axis of layers: this library "
            "has no variant for it"
        )


def _take(
    place: Place, path: Path, layout: Mapping[str, tuple[str, str]], config: Mapping[str, Any]
) -> tuple[dict[str, Tensor], str, tuple[str, ...]]:
    """Return tensors whose thresholds are 0 or more, the number format, and whether that changed any."""
    by_name = {name.lower(): name for name in place.tensors(path)}
    layout = {ours: (by_name.get(theirs.lower(), theirs), shape) for ours, (theirs, shape) in layout.items()}
    tensors, dtype = take(path, place.read(path), layout, d_sae=config.get("width"))
    n_negative = int((tensors["threshold"] < 0).sum())
    tensors["threshold"] = tensors["threshold"].clamp_min(0)
    fold = f"{n_negative} thresholds below 0 became 0, which selects the same since latents are positive"
    return tensors, dtype, (fold,) if n_negative else ()


def _stored(
    tensors: dict[str, Tensor],
    dtype: str,
    folds: tuple[str, ...],
    stated: dict[str, Any],
    is_transcoder: bool,
    **said: Any,  # noqa: ANN401
) -> StoredSAE:
    settings = transcoder_settings(tensors) if is_transcoder else {"apply_b_dec_to_input": False}
    return StoredSAE(NAME, "JumpReLU", tensors, settings, dtype=dtype, stated=stated, folds=folds, **said)


def _last(pattern: str, text: str) -> re.Match[str] | None:
    """Return the last match."""
    return next(reversed(list(re.finditer(pattern, text))), None)


def _width(d_sae: int) -> str:
    """Return how folders call a number of latents.

    >>> _width(16384), _width(65536), _width(2**20)
    ('16k', '65k', '1m')
    """
    return f"{d_sae // 1_000_000}m" if d_sae >= 1_000_000 else f"{d_sae // 1000}k"
