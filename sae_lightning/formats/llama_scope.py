"""Llama Scope (He et al. 2024, arXiv 2410.20526): `hyperparams.json`, and `checkpoints/final.safetensors`.

    x' = a x        pre = x' W_enc + b_enc        latents = pre where pre n > threshold        x_hat = x_hat' / c

with a and c the root of d_in over the mean norm of the data at the input and the output, and n the decoder norms. There
is one threshold, in the units of raw outputs: it is c times as large where it is compared. Of a transcoder input and
output are two hooks of one width.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sae_lightning.formats.norms import fold_data_norms, fold_decoder_norms
from sae_lightning.formats.place import Place
from sae_lightning.formats.stored import StoredSAE, transcoder_settings
from sae_lightning.formats.taking import of_transcoder, take

NAME, TITLE = "llama_scope", "Llama Scope"
_CONFIG, _WEIGHTS, _CHECKPOINTS = "hyperparams.json", "final.safetensors", "checkpoints"
_LAYOUT = {
    "W_enc": ("encoder.weight", "m d"),
    "b_enc": ("encoder.bias", "m"),
    "W_dec": ("decoder.weight", "d m"),
    "b_dec": ("decoder.bias", "d"),
}
_VARIANTS = {"jumprelu": "JumpReLU", "topk": "TopK", "relu": "ReLU"}
_UNITS_OF_THRESHOLD = (
    "the file does not say the units of its threshold; it is taken to be in those of raw activations, in which those "
    "of all published layers are alike"
)


def reads(place: Place) -> bool:
    """Return whether there are the weights of such an SAE and the hyperparameters of its run."""
    return weights_of_run(place, _WEIGHTS) is not None and _is_config(config_of_run(place, _CONFIG))


def _is_config(config: Mapping[str, Any]) -> bool:
    return {"d_model", "d_sae", "act_fn", "hook_point_in"} <= set(config)


def weights_of_run(place: Place, *names: str) -> Path | None:
    """Return the weight file of a run, in its folder or in `checkpoints` there; or the one that was named."""
    if not place.path.is_dir():
        return place.weights(place.path.name)
    folders = (place, Place(place.folder / _CHECKPOINTS)) if (place.folder / _CHECKPOINTS).is_dir() else (place,)
    return next((path for one in folders if (path := one.weights(*names)) is not None), None)


def config_of_run(place: Place, name: str) -> dict[str, Any]:
    """Return a configuration of a run, also where the place is its folder `checkpoints`.

    Raises:
        ValueError: if it is damaged.
    """
    config = place.config(name)
    return config or (Place(place.folder.parent).config(name) if place.folder.name == _CHECKPOINTS else {})


def refuse_foreign(where: Path, config: Mapping[str, Any]) -> None:
    """Refuse what is trained by the same program and is nothing that this library has, and a damaged size.

    Raises:
        ValueError: says what it is.
    """
    if not isinstance(config["d_model"], int):
        raise ValueError(f"{where}: its configuration has d_model={config['d_model']!r}, expected a whole number")
    if config.get("use_glu_encoder"):
        raise ValueError(f"{where} has a GLU encoder, which multiplies pre-activations by a gate: no variant does that")


def is_transcoder(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration names two hooks."""
    return config.get("hook_point_out") not in (None, config.get("hook_point_in"))


def read(place: Place, assumed: Mapping[str, Any]) -> StoredSAE:  # noqa: ARG001 - such a file says everything
    """Read an SAE or a transcoder, its scales folded in.

    Raises:
        ValueError: if it has a GLU encoder, or does not fit its hyperparameters.
    """
    path, config = weights_of_run(place, _WEIGHTS), config_of_run(place, _CONFIG)
    assert path is not None
    refuse_foreign(path, config)
    variant = _VARIANTS.get(str(config["act_fn"]).lower())
    if variant is None:
        raise ValueError(f"{path} has act_fn {config['act_fn']}: expected one of {', '.join(_VARIANTS)}")
    without_bias = [] if config.get("use_decoder_bias", True) else ["b_dec"]
    if variant == "TopK" and not isinstance(config.get("top_k"), int):
        raise ValueError(f"{path}: its hyperparameters have top_k={config.get('top_k')!r}, expected a whole number")
    layout = of_transcoder(_LAYOUT) if is_transcoder(config) else _LAYOUT
    tensors, dtype = take(
        path, place.tensors(path), layout, d_in=config["d_model"], d_sae=config["d_sae"], optional=without_bias
    )
    tensors.setdefault("b_dec", tensors["W_dec"].new_zeros(tensors["W_dec"].shape[1]))
    scales = _scales(path, config)
    if variant == "JumpReLU":
        threshold = _number(path, config, "jump_relu_threshold")
        tensors["threshold"] = tensors["b_enc"].new_full(tensors["b_enc"].shape, max(threshold * scales[1], 0.0))
    folds: tuple[str, ...] = ()
    if config.get("sparsity_include_decoder_norm", True):
        tensors, folds = fold_decoder_norms(variant, tensors)
    tensors = fold_data_norms(tensors, *scales)
    is_centred = bool(config.get("apply_decoder_bias_to_pre_encoder", False))
    if is_centred and (scales[0] != scales[1] or is_transcoder(config)):
        raise ValueError(f"{path} subtracts its decoder bias and has other norms at its input than at its output")
    settings = transcoder_settings(tensors) if is_transcoder(config) else {"apply_b_dec_to_input": is_centred}
    model = Place(place.folder).config("lm_config.json").get("model_name")
    return StoredSAE(
        NAME,
        variant,
        tensors,
        settings | ({"k": config["top_k"]} if variant == "TopK" else {}),
        dtype=dtype,
        stated=_stated(config) | ({"input_scale": scales[0]} if scales[0] != 1 else {}) | _named(model=model),
        folds=folds + ((data_norm_folded(scales[0]),) if scales != (1.0, 1.0) else ()),
        notes=(_UNITS_OF_THRESHOLD,) if variant == "JumpReLU" and scales[1] != 1 else (),
        config=config,
    )


def data_norm_folded(scale: float) -> str:
    """Say that the scale of the data is folded in."""
    return (
        f"activations were multiplied by {scale:.6g} in training; that is folded into the weights, and latents are in "
        "the units of training"
    )


def _scales(path: Path, config: Mapping[str, Any]) -> tuple[float, float]:
    """Return what activations are multiplied by, and what reconstructions are divided by.

    Raises:
        ValueError: if the norm is of each activation or batch, or is not known.
    """
    kind = config.get("norm_activation", "dataset-wise")
    if kind in ("none", "inference"):
        return 1.0, 1.0
    if kind != "dataset-wise":
        raise ValueError(f"{path} has norm_activation {kind}: expected dataset-wise, inference or none")
    norms = config.get("dataset_average_activation_norm")
    if not isinstance(norms, Mapping) or not {"in", "out"} <= set(norms):
        raise ValueError(
            f"{path}: its hyperparameters lack dataset_average_activation_norm, a norm `in` and one `out`, and without "
            "these nobody knows what activations were multiplied by"
        )
    root = math.sqrt(config["d_model"])
    return root / _number(path, norms, "in", 0.0), root / _number(path, norms, "out", 0.0)


def _number(path: Path, config: Mapping[str, Any], name: str, above: float = -math.inf) -> float:
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not above < value < math.inf:
        raise ValueError(f"{path}: its hyperparameters have {name}={value!r}, expected a number")
    return float(value)


def _stated(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the hyperparameters say; a JumpReLU was trained as a TopK, its threshold chosen for the same k."""
    was_top_k = config["act_fn"] == "jumprelu" and "top_k" in config
    return hook_stated(config) | _named(
        k=config.get("top_k") if config["act_fn"] != "relu" else None,
        seed=config.get("seed"),
        learning_rate=config.get("lr"),
        trained_as="TopK" if was_top_k else None,
    )


def hook_stated(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hook, of a transcoder both, and its block, where its name has one."""
    hook = config.get("hook_point_in")
    layer = re.search(r"\bblocks\.(\d+)\.", str(hook))
    target = config["hook_point_out"] if is_transcoder(config) else None
    return _named(hook=hook, target=target, layer=int(layer[1]) if layer else None)


def _named(**values: Any) -> dict[str, Any]:  # noqa: ANN401
    return {name: value for name, value in values.items() if value is not None}
