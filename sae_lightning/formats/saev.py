"""saev (SAEs of vision models): one file, a line of JSON and then what torch.save wrote.

    pre = x W_enc + b_enc        latents = act(pre)        x_hat = latents W_dec + b_dec

The line has a schema, and each schema its own place for the activation: none, a ReLU; 1, two layouts; 2 to 5, a dict.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from sae_lightning.formats.place import Place
from sae_lightning.formats.stored import StoredSAE
from sae_lightning.formats.taking import take
from sae_lightning.formats.weight_files import AFTER_HEADER, HEADER, TORCH

NAME, TITLE = "saev", "saev"
_LAYOUT = {"W_enc": ("W_enc", "d m"), "W_dec": ("W_dec", "m d"), "b_enc": ("b_enc", "m"), "b_dec": ("b_dec", "d")}
_VARIANTS = {"relu": "ReLU", "topk": "TopK", "batchtopk": "BatchTopK"}
_NEWEST_SCHEMA, _DEFAULT_K = 5, 32
_THRESHOLD = "activation.threshold"


def reads(place: Place) -> bool:
    """Return whether exactly one torch file has such a line in front."""
    return len(_fitting(place)) == 1


def _fitting(place: Place) -> list[Path]:
    return [one for one in place.weight_files if one.suffix.lower() in TORCH and _has_header(place, one)]


def _has_header(place: Place, path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(1) != b"{":
            return False
    header = place.read(path)[HEADER]
    return (
        isinstance(header, dict)
        and isinstance(header.get("cfg", {}), dict)
        and ({"schema", "cfg"} <= set(header) or {"d_vit", "exp_factor"} <= set(header))
    )


def read(place: Place, assumed: Mapping[str, Any]) -> StoredSAE:
    """Read an SAE.

    Raises:
        ValueError: if its schema is unknown, its threshold was never set, or the tensors do not fit the line in front.
    """
    [path] = _fitting(place)
    header, state = place.read(path)[HEADER], place.read(path)[AFTER_HEADER]
    config = header.get("cfg", header)
    variant, parameters = _activation(path, header)
    d_in = config.get("d_model", config.get("d_vit"))
    d_sae, factor = config.get("d_sae"), config.get("exp_factor")
    if d_sae is None and isinstance(d_in, int) and isinstance(factor, int):
        d_sae = d_in * factor
    layout = _LAYOUT | ({"threshold": (_THRESHOLD, "")} if variant == "BatchTopK" else {})
    tensors, dtype = take(path, state, layout, d_in=d_in, d_sae=d_sae, optional=["threshold"])
    used: dict[str, Any] = {}
    threshold = tensors.pop("threshold", None)
    if variant == "BatchTopK" and (threshold is None or threshold <= 0):
        variant, used = _without_threshold(path, threshold is not None, assumed)
        threshold = torch.tensor(float(used.get("threshold", 0.0)))
    if variant == "BatchTopK":
        tensors["threshold"] = cast("Tensor", threshold)
    k = parameters.get("top_k", _DEFAULT_K)
    is_top_k = variant in ("TopK", "BatchTopK")
    return StoredSAE(
        NAME,
        variant,
        tensors,
        {"apply_b_dec_to_input": False, **({"k": k} if is_top_k else {})},
        version=header.get("lib"),
        dtype=dtype,
        stated={
            **({"k": k} if is_top_k else {}),
            **({"seed": config["seed"]} if "seed" in config else {}),
            **({"l1_coefficient": coefficient} if (coefficient := _l1(config, parameters)) is not None else {}),
        },
        notes=(
            "saev keeps a negative pre-activation among the k largest where fewer than k are positive; here it is 0",
        )
        if variant == "TopK"
        else (),
        assumed=used,
        config=header,
    )


def _activation(path: Path, header: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the variant and the parameters of its activation.

    Raises:
        ValueError: if the schema is newer, or the activation is none that is known.
    """
    if "schema" not in header:
        return "ReLU", {}
    schema, config = header["schema"], header["cfg"]
    if schema not in range(1, _NEWEST_SCHEMA + 1):
        raise ValueError(f"{path} has schema {schema} of saev: expected 1 to {_NEWEST_SCHEMA}, or none")
    activation = config.get("activation")
    if schema == 1 and str(header.get("cls")).lower() in _VARIANTS:
        name, parameters = header["cls"], config
    elif isinstance(activation, Mapping):
        name, parameters = activation.get("cls"), activation.get("params") or {}
    else:
        name, parameters = ("Relu", {}) if schema == 1 else (None, {})
    if str(name).lower() not in _VARIANTS:
        raise ValueError(f"{path} has the activation {name}: expected one of Relu, TopK, BatchTopK")
    return _VARIANTS[str(name).lower()], dict(parameters)


def _without_threshold(path: Path, is_buffer: bool, assumed: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the variant that was assumed for a BatchTopK without a threshold, and what was assumed.

    Raises:
        ValueError: if nothing was.
    """
    instead = "ReLU" if is_buffer else "TopK"
    if assumed.get("variant") == instead:
        return instead, {"variant": instead}
    if "threshold" in assumed:
        return "BatchTopK", {"threshold": assumed["threshold"]}
    computes = (
        f"has no threshold, its training never set one ({_THRESHOLD} is 0 or less), and saev then computes a ReLU"
        if is_buffer
        else f"has no {_THRESHOLD}: its version of saev keeps the k largest of each sample, also for a BatchTopK"
    )
    raise ValueError(f"{path} {computes}: assume threshold=VALUE, or variant={instead}")


def _l1(config: Mapping[str, Any], parameters: Mapping[str, Any]) -> float | None:
    """Return the weight of the L1 penalty, wherever the schema has it."""
    sparsity = parameters.get("sparsity")
    nested = sparsity.get("params", sparsity) if isinstance(sparsity, Mapping) else {}
    value = nested.get("coeff", config.get("sparsity_coeff", config.get("l1_coeff")))
    return float(value) if isinstance(value, int | float) else None
