"""SAELens, whose folders have `cfg.json` and `sae_weights.safetensors`: exports and training checkpoints, any version.

    x' = x - b_dec if apply_b_dec_to_input        pre_acts = x' W_enc + b_enc        x_hat = latents W_dec + b_dec

    standard      latents = relu(pre_acts)
    topk          relu(the k largest pre_acts); with rescale_acts_by_decoder_norm of pre_acts * ||W_dec||, and then
                  x_hat = latents / ||W_dec|| W_dec + b_dec
    jumprelu      relu(pre_acts) where pre_acts > threshold; so are batchtopk and matryoshka_batchtopk exported
    gated         relu(x' (W_enc exp(r_mag)) + b_mag) where x' W_enc + b_gate > 0

A training checkpoint of batchtopk has `topk_threshold`, one number. Before version 6 the configuration was flat and had
other names. Transcoders are standard or jumprelu, answer in the width d_out, and never subtract b_dec; a skip path is
`W_skip` [d_out, d_in].
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from sae_lightning.formats.b_dec import encoding_with
from sae_lightning.formats.norms import fold_data_norms
from sae_lightning.formats.place import Place
from sae_lightning.formats.saelens_config import (
    BATCH,
    CONFIG,
    INPUT_NORMS,
    TRANSCODERS,
    VARIANTS,
    WHITENED,
    SAELensConfig,
)
from sae_lightning.formats.saelens_stated import STATED, stated
from sae_lightning.formats.stored import StoredSAE, transcoder_settings
from sae_lightning.formats.taking import of_transcoder, take
from sae_lightning.whole_files import whole_file, write_whole

NAME, TITLE = "saelens", "SAELens"
_WEIGHTS = "sae_weights.safetensors"
_WHITENING = "activation_whitening.safetensors"
_WRITTEN_VERSION = "6.0.0"
_LAYOUT = {"W_enc": ("W_enc", "d m"), "W_dec": ("W_dec", "m d"), "b_enc": ("b_enc", "m"), "b_dec": ("b_dec", "d")}
_ARCHITECTURES = {ours: theirs for theirs, ours in VARIANTS.items()} | dict.fromkeys(BATCH, "jumprelu")
_FINETUNING = ("finetuning_scaling_factor", "scaling_factor")
"""Names of factors on latents before decoding, which SAELens had before version 6, mostly ones."""
_UNIT_WITHIN = 1e-6
_KEPT = ("model", "hook", "target", "context_length", "prepend_bos", "dataset", "l0", "dead")


def reads(place: Place) -> bool:
    """Return whether both files are there and the configuration has the two sizes."""
    return place.weights(_WEIGHTS) is not None and {"d_in", "d_sae"} <= set(place.config(CONFIG))


def read(place: Place, assumed: Mapping[str, Any]) -> StoredSAE:
    """Read an SAE; one that is still in training as SAELens would export it.

    Raises:
        ValueError: if this library has no such variant, or the files are incomplete or contradict each other.
    """
    config = SAELensConfig(place, assumed)
    scale = config.scale()
    tensors, dtype = _take(place, config)
    folds = _fold(place, config, tensors, scale)
    input_norm, notes = config.input_norm()
    if input_norm == "center":
        folds.append(
            "the mean of each activation over d_in is subtracted before and added after (input_norm center), as "
            "centred writing weights do"
        )
    settings = {"apply_b_dec_to_input": config.subtracts_b_dec, "input_norm": input_norm, **config.settings()}
    said = stated(place, config.said)
    if config.is_transcoder:
        settings |= transcoder_settings(tensors)
    else:
        said.pop("target", None)  # the hook itself
    if config.variant == "TopK":
        said["k"] = config.k()
    if (trained_as := config.trained_as()) is not None:
        said["trained_as"] = trained_as
    if scale is not None:
        said["input_scale"] = scale
    return StoredSAE(
        NAME,
        config.variant,
        tensors,
        settings,
        version=config.version,
        dtype=dtype,
        stated=said,
        folds=tuple(folds),
        notes=(*notes, *config.warnings(tensors.get("threshold"))),
        assumed={name: assumed[name] for name in assumed if name in config.used},
        config=place.config(CONFIG),
    )


def _take(place: Place, config: SAELensConfig) -> tuple[dict[str, Tensor], str]:
    """Return the tensors by our names, and the number format of the file.

    Raises:
        ValueError: if one is missing, unknown or of another shape, or there is no threshold.
    """
    path = place.weights(_WEIGHTS)
    assert path is not None
    held = place.tensors(path)
    layout = {**_LAYOUT, "finetuning": (next((name for name in _FINETUNING if name in held), ""), "m")}
    if config.variant == "JumpReLU":
        layout["threshold"] = ("log_threshold" if "log_threshold" in held else "threshold", "m")
    elif config.variant == "Gated":
        layout |= {"b_enc": ("b_gate", "m"), "r_mag": ("r_mag", "m"), "b_mag": ("b_mag", "m")}
    elif config.variant in BATCH:
        layout["threshold"] = ("topk_threshold", "")
    if config.is_transcoder:
        layout = of_transcoder(layout) | ({"W_skip": ("W_skip", "o d")} if config.skip else {})
    ignored = ["topk_threshold"] if "variant" in config.used else []
    sizes = {name: config.said[name] for name in ("d_in", "d_sae")}
    sizes |= {"d_out": config.config["d_out"]} if config.is_transcoder else {}
    tensors, dtype = take(path, held, layout, **sizes, optional=["finetuning"], ignored=ignored)
    if layout.get("threshold", ("",))[0] == "log_threshold":
        tensors["threshold"] = tensors["threshold"].exp()
    if config.variant in BATCH and not tensors["threshold"] > 0:
        tensors["threshold"] = tensors["threshold"].new_tensor(config.assumed_threshold())
    return tensors, dtype


def _fold(place: Place, config: SAELensConfig, tensors: dict[str, Tensor], scale: float | None) -> list[str]:
    """Fold in what our classes do not have, in the order of SAELens' own export, and return it in words.

    Raises:
        ValueError: if the matrices that whitened the activations are missing.
    """
    folds = []
    if scale is not None:
        folds.append(_fold_scale(tensors, scale, config.ranks_by_norm))
    if config.ranks_by_norm:
        folds += _fold_norms(tensors)
    if config.normalization == WHITENED:
        folds.append(_fold_whitening(tensors, _whitening(place, tensors), config.subtracts_b_dec))
    factors = tensors.pop("finetuning", None)
    if factors is not None and bool((factors != 1).any()):
        tensors["W_dec"] = tensors["W_dec"] * factors[:, None]
        folds.append("decoder rows are multiplied by the file's finetuning_scaling_factor")
    if config.variant == "JumpReLU" and (n := int((tensors["threshold"] < 0).sum())):
        tensors["threshold"] = tensors["threshold"].clamp_min(0)
        folds.append(f"{n} negative thresholds are 0, which SAELens' relu makes the same")
    return folds


def _fold_scale(tensors: dict[str, Tensor], scale: float, ranks_by_norm: bool) -> str:
    tensors.update(fold_data_norms(tensors, scale, scale))
    if ranks_by_norm and "threshold" in tensors:  # in units of pre_acts * ||W_dec||
        tensors["threshold"] = tensors["threshold"] / scale
    return f"the scale of the input, {scale:.6g}, is folded in: W_enc times, W_dec and b_dec divided by it"


def _fold_norms(tensors: dict[str, Tensor]) -> list[str]:
    norms = torch.linalg.vector_norm(tensors["W_dec"], dim=1).clamp_min(1e-8)
    if bool((norms - 1).abs().max() < _UNIT_WITHIN):
        return []
    tensors["W_enc"], tensors["b_enc"] = tensors["W_enc"] * norms, tensors["b_enc"] * norms
    tensors["W_dec"] = tensors["W_dec"] / norms[:, None]
    return ["the norms of decoder rows are folded into W_enc and b_enc, since SAELens ranks latents times these norms"]


def _whitening(place: Place, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """Return mean [d_in], matrix and inverse [d_in, d_in] of z = (x - mean) matrix, float64.

    Raises:
        ValueError: if the file is missing, or of another SAE.
    """
    path = place.folder / _WHITENING
    if not path.is_file():
        raise ValueError(
            f"{place}: normalize_activations is {WHITENED}, so its weights are for whitened activations: expected "
            f"{_WHITENING} beside it. In SAELens call sae.fold_activation_whitening(...) and save the SAE again"
        )
    held, d_in = place.tensors(path), len(tensors["b_dec"])
    shapes = {"mean": [d_in], "matrix": [d_in, d_in], "inverse_matrix": [d_in, d_in]}
    if {name: list(tensor.shape) for name, tensor in held.items()} != shapes:
        raise ValueError(f"{path}: expected the tensors mean, matrix and inverse_matrix of d_in={d_in}")
    return [held[name].double() for name in shapes]


def _fold_whitening(tensors: dict[str, Tensor], whitening: list[Tensor], subtracts_b_dec: bool) -> str:
    mean, matrix, inverse = whitening
    tensors["W_enc"] = (matrix @ tensors["W_enc"].double()).float()
    tensors["W_dec"] = (tensors["W_dec"].double() @ inverse).float()
    tensors["b_dec"] = (tensors["b_dec"].double() @ inverse + mean).float()
    if not subtracts_b_dec:
        tensors.update(encoding_with(tensors, -mean))
    return "the whitening of activations is folded into both matrices and the biases"


def writable(stored: StoredSAE) -> StoredSAE:
    """Return the SAE as SAELens expresses it: a BatchTopK is a jumprelu with one threshold for all latents.

    Raises:
        ValueError: if SAELens cannot express it.
    """
    if stored.variant not in VARIANTS.values():
        names = ", ".join(VARIANTS.values())
        raise ValueError(f"SAELens has no class for a {stored.variant}: expected one of {names}")
    if stored.is_transcoder and stored.variant not in ("ReLU", "JumpReLU", *BATCH):
        raise ValueError(
            f"SAELens has transcoders of ReLU and JumpReLU, as which a BatchTopK is written, and this is a "
            f"{stored.variant}"
        )
    _normalization_for(stored.settings.get("input_norm"))
    if stored.variant not in BATCH:
        return stored
    if not stored.tensors["threshold"] > 0:
        raise ValueError(
            f"this {stored.variant} has no threshold yet, and SAELens has nothing else for it: train it first"
        )
    is_matryoshka = "group_fractions" in stored.settings
    notes = ("the groups of latents are not in the files, which say what it computes",) if is_matryoshka else ()
    return replace(stored, notes=(*stored.notes, *notes))


def write(stored: StoredSAE, folder: Path) -> list[Path]:
    """Write an SAE as SAELens 6 reads it.

    Raises:
        ValueError: if SAELens cannot express it.
    """
    stored = writable(stored)
    tensors = dict(stored.tensors)
    config = {"apply_b_dec_to_input": stored.settings.get("apply_b_dec_to_input", True)}
    config["architecture"] = _architecture_for(stored)
    if stored.is_transcoder:
        config["d_out"] = stored.settings["d_out"]
        tensors |= {"W_skip": tensors["W_skip"].T} if stored.settings["skip"] else {}
    if stored.variant == "TopK":
        config |= {"k": stored.settings["k"], "rescale_acts_by_decoder_norm": False}
    elif stored.variant in BATCH:
        tensors["threshold"] = tensors["threshold"].expand_as(tensors["b_enc"])
    elif stored.variant == "Gated":
        tensors["b_gate"] = tensors.pop("b_enc")
    config["normalize_activations"] = _normalization_for(stored.settings.get("input_norm"))
    config |= {"d_in": stored.d_in, "d_sae": stored.d_sae, "dtype": "float32", "device": "cpu"}
    config |= {"reshape_activations": "none", "metadata": _metadata(stored)}
    weights, cfg = folder / _WEIGHTS, folder / CONFIG
    with whole_file(weights) as part:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part)
    write_whole(cfg, json.dumps(config, indent=2) + "\n")
    return [weights, cfg]


def _architecture_for(stored: StoredSAE) -> str:
    if not stored.is_transcoder:
        return _ARCHITECTURES[stored.variant]
    kind = ("ReLU" if stored.variant == "ReLU" else "JumpReLU", stored.settings["skip"])
    return next(theirs for theirs, ours in TRANSCODERS.items() if ours == kind)


def _normalization_for(input_norm: str | None) -> str:
    for theirs, ours in INPUT_NORMS.items():
        if ours == input_norm:
            return theirs
    raise ValueError(
        f"SAELens cannot express input_norm={input_norm}: it has {', '.join(map(str, INPUT_NORMS.values()))}"
    )


def _metadata(stored: StoredSAE) -> dict[str, Any]:
    """Return what is known of the training by SAELens' names, and the version without which it takes a file as old."""
    names = {name: keys[0] for name, keys in STATED.items() if name in _KEPT}
    metadata: dict[str, Any] = {names[name]: stored.stated[name] for name in names if name in stored.stated}
    if "hook_name" in metadata and not str(metadata["hook_name"]).startswith("blocks."):
        metadata["model_class_name"] = "AutoModelForCausalLM"
    if stored.variant in BATCH:
        architecture = {ours: theirs for theirs, ours in VARIANTS.items()}[stored.variant]
        metadata["training_architecture"] = architecture
        metadata["training_architecture_details"] = {
            "k": stored.settings["k"],
            "rescale_acts_by_decoder_norm": False,
        }
    return {"sae_lens_version": _WRITTEN_VERSION, "sae_lens_training_version": None, **metadata}
