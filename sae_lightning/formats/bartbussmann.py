"""SAEs of bartbussmann/BatchTopK and bartbussmann/matryoshka_sae: `sae.pt`, a state_dict, and `config.json`.

    x' = x, or with input_unit_norm (x - mean(x)) / (std(x) + 1e-5) of each activation
    topk, batch topk, matryoshka   pre_acts = (x' - b_dec) W_enc, without the b_enc that the file has
    vanilla                        pre_acts = (x' - b_dec) W_enc + b_enc
    jumprelu                       pre_acts = x' W_enc + b_enc, above exp(log_threshold)

matryoshka_sae keeps a threshold for batch topk and matryoshka; BatchTopK keeps none, and selects by batch always.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sae_lightning.formats.place import Place
from sae_lightning.formats.stored import StoredSAE
from sae_lightning.formats.taking import take
from sae_lightning.formats.threshold import with_threshold
from sae_lightning.formats.weight_files import TORCH

NAME, TITLE = "bartbussmann", "BatchTopK and matryoshka_sae (bartbussmann)"
_KEYS = {"act_size", "dict_size", "sae_type"}
_VARIANTS = {
    "vanilla": "ReLU",
    "topk": "TopK",
    "batchtopk": "BatchTopK",
    "globalmatryoshkatopk": "MatryoshkaBatchTopK",
    "globalbatchtopkmatryoshka": "MatryoshkaBatchTopK",
    "jumprelu": "JumpReLU",
}
_BY_BATCH = ("BatchTopK", "MatryoshkaBatchTopK")
_WITH_K = ("TopK", *_BY_BATCH)
_LAYOUT = {"W_enc": ("W_enc", "d m"), "W_dec": ("W_dec", "m d"), "b_enc": ("b_enc", "m"), "b_dec": ("b_dec", "d")}
_STATED = {
    "model_name": "model",
    "hook_point": "hook",
    "layer": "layer",
    "seq_len": "context_length",
    "dataset_path": "dataset",
    "batch_size": "batch_size",
    "lr": "learning_rate",
    "seed": "seed",
}


def reads(place: Place) -> bool:
    """Return whether there is a torch file beside a configuration of these repositories."""
    return _weights_path(place) is not None and set(place.config("config.json")) >= _KEYS


def _weights_path(place: Place) -> Path | None:
    return place.weights("sae.pt") or place.only_weights(*TORCH)


def read(place: Place, assumed: Mapping[str, Any]) -> StoredSAE:
    """Read any of the five classes.

    Raises:
        ValueError: if it is another class, or selects by batch and has no threshold.
    """
    path, config = _weights_path(place), place.config("config.json")
    assert path is not None  # see `reads`
    tensors = place.read(path)
    variant = _variant(path, config, tensors)
    layout = dict(_LAYOUT)
    if variant == "JumpReLU":
        layout["threshold"] = ("jumprelu.log_threshold", "m")
    d_sae = sum(_group_sizes(path, config)) if variant == "MatryoshkaBatchTopK" else config["dict_size"]
    taken, dtype = take(path, tensors, layout, d_in=config["act_size"], d_sae=d_sae, ignored=["threshold"])
    settings = _settings(path, config, variant)
    stored = StoredSAE(
        NAME, variant, taken, settings, dtype=dtype, stated=_stated(place, config, variant), config=dict(config)
    )
    if variant == "JumpReLU":
        return _jump_relu(stored, assumed)
    if variant == "ReLU":
        return stored
    stored = _without_b_enc(stored)
    return _with_threshold(path, stored, tensors, assumed) if variant in _BY_BATCH else stored


def _variant(path: Path, config: Mapping[str, Any], tensors: Mapping[str, Any]) -> str:
    """Return our class, told by sae_type and checked by the tensors that only some classes have.

    Raises:
        ValueError: if there is none, or the tensors are those of another class.
    """
    variant = _VARIANTS.get(re.sub("[^a-z]", "", str(config["sae_type"]).lower()).removesuffix("sae"))
    if variant is None:
        raise ValueError(
            f"{path} has sae_type={config['sae_type']}: this library has no variant for it, only for vanilla, topk, "
            "batchtopk, global-matryoshka-topk and jumprelu"
        )
    has_log_threshold = "jumprelu.log_threshold" in tensors
    if has_log_threshold != (variant == "JumpReLU") or ("threshold" in tensors and variant not in _BY_BATCH):
        theirs = (
            "jumprelu.log_threshold" if has_log_threshold else "threshold" if "threshold" in tensors else "no threshold"
        )
        raise ValueError(
            f"{path}: config.json says sae_type={config['sae_type']}, and the weights have {theirs}: the two do not "
            "belong together"
        )
    return variant


def _settings(path: Path, config: Mapping[str, Any], variant: str) -> dict[str, Any]:
    settings: dict[str, Any] = {"apply_b_dec_to_input": variant != "JumpReLU"}
    if variant in _WITH_K:
        if not isinstance(config.get("top_k"), int):
            raise ValueError(f"{path}: config.json says top_k={config.get('top_k')}, and a {variant} needs a number")
        settings["k"] = config["top_k"]
    if variant == "MatryoshkaBatchTopK":
        sizes = _group_sizes(path, config)
        settings["group_fractions"] = [size / sum(sizes) for size in sizes]
    if config.get("input_unit_norm", False):
        settings["input_norm"] = "layer_norm"
    return settings


def _group_sizes(path: Path, config: Mapping[str, Any]) -> list[int]:
    """Return the sizes of the groups, which the repository writes as text."""
    sizes = config.get("group_sizes")
    try:
        sizes = json.loads(sizes) if isinstance(sizes, str) else sizes
    except ValueError:
        sizes = None
    if not isinstance(sizes, list) or not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError(
            f"{path}: config.json says group_sizes={config.get('group_sizes')}, expected sizes such as [512, 512, 1024]"
        )
    return sizes


def _jump_relu(stored: StoredSAE, assumed: Mapping[str, Any]) -> StoredSAE:
    tensors = {**stored.tensors, "threshold": stored.tensors["threshold"].exp()}
    stored = replace(stored, tensors=tensors, folds=("threshold is the exponential of jumprelu.log_threshold",))
    if "apply_b_dec_to_input" in assumed:
        said = {"apply_b_dec_to_input": assumed["apply_b_dec_to_input"]}
        return replace(stored, settings={**stored.settings, **said}, assumed=said)
    note = (
        "the file does not say whether b_dec is subtracted before encoding; JumpReLUSAE does not, unless called with "
        "use_pre_enc_bias=True: then assume apply_b_dec_to_input=true"
    )
    return replace(stored, notes=(note,))


def _without_b_enc(stored: StoredSAE) -> StoredSAE:
    b_enc = stored.tensors["b_enc"]
    if not b_enc.any():
        return stored
    fold = f"b_enc became 0, since the {stored.variant} of this repository has one and does not use it"
    return replace(stored, tensors={**stored.tensors, "b_enc": torch.zeros_like(b_enc)}, folds=(fold,))


def _with_threshold(path: Path, stored: StoredSAE, tensors: Mapping[str, Any], assumed: Mapping[str, Any]) -> StoredSAE:
    """Return the SAE with its threshold, or as matryoshka_sae computes it where training never set one.

    Raises:
        ValueError: if there is none and none is assumed.
    """
    if "threshold" not in tensors and "threshold" not in assumed:
        raise ValueError(
            f"{path} has no threshold: the {stored.variant} of this repository selects by batch also after training; "
            "assume one, as threshold=0.5, such as the mean of the smallest latents that it keeps in batches"
        )
    kept = tensors.get("threshold")
    threshold = None if kept is None else float(torch.as_tensor(kept).flatten()[0])
    return with_threshold(path, stored, threshold, assumed, "matryoshka_sae")


def _stated(place: Place, config: Mapping[str, Any], variant: str) -> dict[str, Any]:
    stated = {ours: config[theirs] for theirs, ours in _STATED.items() if config.get(theirs) is not None}
    if variant in _WITH_K:
        stated["k"] = config["top_k"]
    elif variant == "ReLU" and "l1_coeff" in config:
        stated["l1_coefficient"] = config["l1_coeff"]
    step = place.folder.resolve().name.removeprefix(f"{config.get('name')}_")
    if step.isdigit() and "batch_size" in config:
        stated["tokens"] = int(step) * config["batch_size"]
    return stated
