"""Llamascopium (earlier Language-Model-SAEs, lm_saes): `config.json`, and `sae_weights.safetensors` or `.pt`.

    x' = a x        pre = x' W_E + b_E        latents = act(pre n) / n        x_hat = (latents W_D + b_D) / c

with a and c the root of d_in over the mean norm of the data at the input and the output, which stand among the tensors,
and n the decoder norms where `sparsity_include_decoder_norm` says so, else 1. Older files name tensors as torch does.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from sae_lightning.formats.llama_scope import (
    config_of_run,
    data_norm_folded,
    hook_stated,
    is_transcoder,
    refuse_foreign,
    weights_of_run,
)
from sae_lightning.formats.norms import fold_data_norms, fold_decoder_norms
from sae_lightning.formats.place import Place
from sae_lightning.formats.stored import StoredSAE, transcoder_settings
from sae_lightning.formats.taking import of_transcoder, take

NAME, TITLE = "llamascopium", "Llamascopium"
_CONFIG = "config.json"
_WEIGHTS = ("sae_weights.safetensors", "sae_weights.pt", "final.safetensors", "final.pt")
_TAKEN = ("sae", "matryoshka_sae")
_OTHERS = {
    "clt": "a cross-layer transcoder (CLT)",
    "crosscoder": "a crosscoder",
    "lorsa": "a Lorsa, a sparse attention layer",
    "molt": "a MOLT, a mixture of linear transforms",
}
_VARIANTS = {"relu": "ReLU", "jumprelu": "JumpReLU", "topk": "TopK", "batchtopk": "BatchTopK"}
_NORM, _LOG_THRESHOLD = "dataset_average_activation_norm.", "log_jumprelu_threshold"
_LAYOUT = {"W_enc": ("W_E", "d m"), "b_enc": ("b_E", "m"), "W_dec": ("W_D", "m d"), "b_dec": ("b_D", "d")}
_OLD_LAYOUT = {
    "W_enc": ("encoder.weight", "m d"),
    "b_enc": ("encoder.bias", "m"),
    "W_dec": ("decoder.weight", "d m"),
    "b_dec": ("decoder.bias", "d"),
}


def reads(place: Place) -> bool:
    """Return whether there is a weight file beside a configuration of this library."""
    return weights_of_run(place, *_WEIGHTS) is not None and _is_config(config_of_run(place, _CONFIG))


def _is_config(config: Mapping[str, Any]) -> bool:
    is_known_type = config.get("sae_type") in (*_TAKEN, *_OTHERS)
    return "d_model" in config and (is_known_type or {"act_fn", "hook_point_in", "expansion_factor"} <= set(config))


def read(place: Place, assumed: Mapping[str, Any]) -> StoredSAE:
    """Read an SAE, its scales folded in.

    Raises:
        ValueError: if it is another kind of dictionary, lacks a threshold, or does not fit its configuration.
    """
    path, config = weights_of_run(place, *_WEIGHTS), config_of_run(place, _CONFIG)
    assert path is not None
    _refuse(path, config)
    content = place.read(path)
    state = content.get("sae", content)
    activation = str(config.get("act_fn", "relu")).lower()
    if activation not in _VARIANTS:
        raise ValueError(f"{path} has act_fn {activation}: expected one of {', '.join(_VARIANTS)}")
    variant = _VARIANTS[activation]
    tensors, dtype = _take(path, state, config, variant)
    used = _with_threshold(path, variant, tensors, assumed)
    folds: tuple[str, ...] = ()
    if config.get("sparsity_include_decoder_norm", True):
        tensors, folds = fold_decoder_norms(variant, tensors)
    scales = _scales(path, state, config)
    if scales != (1.0, 1.0):
        tensors, folds = fold_data_norms(tensors, *scales), (*folds, data_norm_folded(scales[0]))
    variant, settings = _settings(path, variant, config, tensors["b_enc"].numel())
    settings |= transcoder_settings(tensors) if is_transcoder(config) else {}
    stated = hook_stated(config) | ({"input_scale": scales[0]} if scales[0] != 1 else {})
    stated |= {"k": config["top_k"]} if "k" in settings else {}
    if config.get("sae_type") == "matryoshka_sae" and variant != "MatryoshkaBatchTopK":
        stated["trained_as"] = "matryoshka_sae"
    return StoredSAE(
        NAME,
        variant,
        tensors,
        settings,
        version=_version(path, content),
        dtype=dtype,
        stated=stated,
        folds=folds,
        assumed=used,
        config=config,
    )


def _refuse(path: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("sae_type", "sae")
    if kind not in _TAKEN:
        raise ValueError(
            f"{path} is {_OTHERS.get(kind, f'of sae_type {kind}')}: this library has no variant for it, only for "
            f"sae_type {' and '.join(_TAKEN)}"
        )
    refuse_foreign(path, config)


def _take(
    path: Path, state: Mapping[str, Any], config: Mapping[str, Any], variant: str
) -> tuple[dict[str, Tensor], str]:
    layout = dict(_OLD_LAYOUT if "encoder.weight" in state else _LAYOUT)
    layout = of_transcoder(layout) if is_transcoder(config) else layout
    if variant == "JumpReLU":
        names = [name for name in state if name.split(".")[-1] == _LOG_THRESHOLD]
        layout["threshold"] = (names[0] if names else f"activation_function.{_LOG_THRESHOLD}", "m")
    d_in, expansion = config["d_model"], config.get("expansion_factor")
    tensors, dtype = take(
        path,
        state,
        layout,
        d_in=d_in,
        d_sae=round(d_in * expansion) if isinstance(expansion, int | float) else None,
        optional=[] if config.get("use_decoder_bias", True) else ["b_dec"],
        ignored=[name for name in state if name.startswith(_NORM)],
    )
    tensors.setdefault("b_dec", tensors["W_dec"].new_zeros(tensors["W_dec"].shape[1]))
    if variant == "JumpReLU":
        tensors["threshold"] = tensors["threshold"].exp()
    return tensors, dtype


def _with_threshold(path: Path, variant: str, tensors: dict[str, Tensor], assumed: Mapping[str, Any]) -> dict[str, Any]:
    """Add the threshold of a BatchTopK, which such a file never has, and return what was assumed."""
    if variant != "BatchTopK":
        return {}
    if "threshold" not in assumed:
        raise ValueError(
            f"{path} is a BatchTopK and has no threshold, since its library chooses by the batch in evaluation too: "
            "assume one, as threshold=0.5, in the units in which it chooses (of normalised activations, times the "
            "decoder norm where sparsity_include_decoder_norm is on)"
        )
    tensors["threshold"] = torch.tensor(float(assumed["threshold"]))
    return {"threshold": assumed["threshold"]}


def _scales(path: Path, state: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[float, float]:
    """Return what activations are multiplied by, and what reconstructions are divided by.

    Raises:
        ValueError: if that differs from batch to batch, or is not in the file.
    """
    kind = config.get("norm_activation", "dataset-wise")
    if kind == "token-wise" and is_transcoder(config):
        raise ValueError(f"{path} is a transcoder with norm_activation token-wise, whose answer has norms of its own")
    if kind in ("inference", "token-wise"):
        return 1.0, 1.0
    if kind != "dataset-wise":
        raise ValueError(f"{path} has norm_activation {kind}: expected dataset-wise, token-wise or inference")
    hooks = config["hook_point_in"], config["hook_point_out"] if is_transcoder(config) else config["hook_point_in"]
    scale_in, scale_out = (_scale(path, state, f"{_NORM}{hook}", config["d_model"]) for hook in hooks)
    return scale_in, scale_out


def _scale(path: Path, state: Mapping[str, Any], name: str, d_in: int) -> float:
    norm = float(state[name]) if isinstance(state.get(name), Tensor) and state[name].numel() == 1 else math.nan
    if not 0 < norm < math.inf:
        raise ValueError(
            f"{path} normalises by the whole data and has {name}={norm if name in state else None}, expected the mean "
            "norm of an activation: save it anew with fold_activation_scale=True"
        )
    return math.sqrt(d_in) / norm


def _settings(path: Path, variant: str, config: Mapping[str, Any], d_sae: int) -> tuple[str, dict[str, Any]]:
    """Return the class and its arguments."""
    settings: dict[str, Any] = {"apply_b_dec_to_input": False}
    if config.get("norm_activation") == "token-wise":
        settings["input_norm"] = "unit_norm"
    if variant in ("TopK", "BatchTopK"):
        if not isinstance(config.get("top_k"), int):
            raise ValueError(f"{path}: its configuration has top_k={config.get('top_k')!r}, expected a whole number")
        settings["k"] = config["top_k"]
    if variant == "BatchTopK" and config.get("sae_type") == "matryoshka_sae":
        widths = sorted({*config.get("matryoshka_widths", ()), d_sae})
        steps = [wide - narrow for narrow, wide in zip([0, *widths], widths, strict=False)]
        return "MatryoshkaBatchTopK", settings | {"group_fractions": [step / d_sae for step in steps]}
    return variant, settings


def _version(path: Path, content: Mapping[str, Any]) -> str | None:
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("version")
    return content.get("version")
