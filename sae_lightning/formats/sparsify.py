"""sparsify (EleutherAI, package `eai-sparsify`): a folder a hookpoint, with sae.safetensors and cfg.json.

    latents = the k largest of relu((x - b_dec) encoder.weight^T + encoder.bias)      x_hat = latents W_dec + b_dec

`encoder.weight` lies as `nn.Linear` has it, [d_sae, d_in], and so does `W_dec`, which is therefore not transposed. The
config.json of the run lies above the hookpoints. Older releases have folders `layer_N` and the key `signed`.

A transcoder (`transcode`) reads the input of its hookpoint and answers with the output, of the same width; it does not
subtract b_dec, and a skip path (`skip_connection`) adds x W_skip^T. Of those of older releases only the run's
configuration says what they are; these subtract b_dec as SAEs do, which goes into the bias of the encoder.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from sae_lightning.formats.b_dec import with_b_dec_subtracted
from sae_lightning.formats.place import Place, read_json
from sae_lightning.formats.stored import StoredSAE, transcoder_settings
from sae_lightning.formats.taking import of_transcoder, take
from sae_lightning.whole_files import whole_file, write_whole

NAME, TITLE = "sparsify", "sparsify"
WEIGHTS, CONFIG, RUN_CONFIG = "sae.safetensors", "cfg.json", "config.json"
_LAYOUT = {
    "W_enc": ("encoder.weight", "m d"),
    "b_enc": ("encoder.bias", "m"),
    "W_dec": ("W_dec", "m d"),
    "b_dec": ("b_dec", "d"),
}
_SIGNED = "a signed SAE, which keeps the latents with the largest magnitudes whatever their sign"
_LEARNING_RATES = {"adam": 2e-4, "signum": 5e-3, "muon": 2e-3}
"""What the library takes for null, but for muon divided by sqrt(d_sae / 2^14). Older releases have Adam alone."""


def reads(place: Place) -> bool:
    """Return whether there are its two files, told by keys of cfg.json; or weights with its names alone."""
    path, config = place.weights(WEIGHTS), place.config(CONFIG)
    if path is None:
        return False
    if config:
        return "d_in" in config and ("num_latents" in config or "expansion_factor" in config)
    return not _is_ours(place.folder) and {"encoder.weight", "W_dec"} <= set(place.tensors(path))


def read(place: Place, assumed: Mapping[str, Any]) -> StoredSAE:
    """Read the SAE or transcoder of one hookpoint.

    Raises:
        ValueError: if it is no TopK, or its files are damaged or do not belong together.
    """
    path, config = place.weights(WEIGHTS), place.config(CONFIG)
    assert path is not None
    if not config:
        raise ValueError(
            f"{place} has {WEIGHTS} of sparsify and no {CONFIG}, which says k: fetch it from where the weights come"
        )
    run, run_notes = _run_config(place.folder)
    of_run = run.get("sae")
    configs = [config, run, of_run if isinstance(of_run, dict) else {}]
    is_transcoder, skip = (any(one.get(key) for one in configs) for key in ("transcode", "skip_connection"))
    _refuse_others(place, configs, skip and not is_transcoder)
    d_in = _whole(place, config, "d_in")
    d_sae = _whole(place, config, "num_latents") if config.get("num_latents") else None
    d_sae = d_sae or d_in * _whole(place, config, "expansion_factor")
    layout = of_transcoder(_LAYOUT) if is_transcoder else _LAYOUT
    layout = layout | ({"W_skip": ("W_skip", "o d")} if skip else {})
    tensors, dtype = take(path, place.read(path), layout, d_in=d_in, d_sae=d_sae)
    k = _whole(place, config, "k")
    if k > d_sae:
        raise ValueError(f"{place.folder / CONFIG} has k={k}: expected 1 to {d_sae}, the number of latents")
    stated, notes = _stated(place.folder, run, d_sae)
    stored = StoredSAE(
        NAME,
        "TopK",
        tensors,
        {"k": k, "apply_b_dec_to_input": not config.get("transcode")},
        dtype=dtype,
        stated={**stated, "k": k},
        notes=(*run_notes, *notes),
        config=config,
    )
    return _transcoder(stored) if is_transcoder else stored


def _transcoder(stored: StoredSAE) -> StoredSAE:
    """Return what was read as the transcoder that it is, from the input of its hookpoint to the output."""
    stored = with_b_dec_subtracted(stored, False)
    hook = stored.stated.get("hook")
    ends = {} if hook is None else {"hook": f"{hook}.input", "target": hook}
    settings = {**stored.settings, **transcoder_settings(stored.tensors)}
    return replace(stored, settings=settings, stated={**stored.stated, **ends})


def writable(stored: StoredSAE) -> StoredSAE:
    """Return the SAE as this format has it; what that changes is named in `folds`.

    Raises:
        ValueError: if the format cannot express it.
    """
    if stored.variant != "TopK":
        raise ValueError(f"sparsify has TopK SAEs, and this is a {stored.variant}: write it in the format of SAELens")
    if stored.settings.get("input_norm"):
        raise ValueError(
            f"this SAE has input_norm={stored.settings['input_norm']}, and sparsify does not normalise activations: "
            "write it in the format of SAELens"
        )
    if not stored.is_transcoder:
        return with_b_dec_subtracted(stored, True)
    if stored.d_in != stored.settings["d_out"]:
        raise ValueError(
            f"sparsify has transcoders between places of one width, and this one has d_in={stored.d_in} and "
            f"d_out={stored.settings['d_out']}"
        )
    return stored


def write(stored: StoredSAE, folder: Path) -> list[Path]:
    """Write a folder that `SparseCoder.load_from_disk` reads; name it after the hookpoint, such as layers.10.

    Raises:
        ValueError: if the format cannot express the SAE, or the files would take the place of an SAE of this library.
    """
    stored = writable(stored)
    weights, config = folder / WEIGHTS, folder / CONFIG
    if _is_ours(folder):
        raise ValueError(
            f"{folder} holds an SAE of sae_lightning, whose {WEIGHTS} would be overwritten: give another folder"
        )
    skip = stored.settings.get("skip", False)
    layout = _LAYOUT | ({"W_skip": ("W_skip", "o d")} if skip else {})
    tensors = {
        theirs: (stored.tensors[ours].T if ours in ("W_enc", "W_skip") else stored.tensors[ours]).contiguous()
        for ours, (theirs, _) in layout.items()
    }
    with whole_file(weights) as part:
        save_file(tensors, part)
    settings = {
        "activation": "topk",
        "expansion_factor": max(1, round(stored.d_sae / stored.d_in)),
        "normalize_decoder": stored.has_unit_norm_decoder,
        "num_latents": stored.d_sae,
        "k": stored.settings["k"],
        "multi_topk": False,
        "skip_connection": skip,
        "transcode": stored.is_transcoder,
        "d_in": stored.d_in,
    }
    write_whole(config, json.dumps(settings))
    return [weights, config]


def _is_ours(folder: Path) -> bool:
    """Return whether there is an SAE of this library, whose weights have the same name."""
    return (folder / "sae.json").is_file()


def _refuse_others(place: Place, configs: Sequence[Mapping[str, Any]], is_skip_sae: bool) -> None:
    """Refuse what is no TopK.

    Args:
        place: for messages.
        configs: of the hookpoint, of its run, and of the SAEs of the run.
        is_skip_sae: whether it is an SAE that has what only transcoders have here.

    Raises:
        ValueError: says what it is.
    """
    refused = ["an SAE with a linear skip connection"] if is_skip_sae else []
    refused += [_SIGNED] if any(one.get("signed") for one in configs) else []
    activation = configs[0].get("activation", "topk")
    if activation == "groupmax":
        refused.append("a groupmax SAE, which keeps the largest latent of each of k groups")
    elif activation != "topk":
        refused.append(f"an SAE with the activation {activation!r}")
    if refused:
        raise ValueError(f"{place} holds {' and '.join(refused)}: this library has no variant for it, of sparsify TopK")


def _whole(place: Place, config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{place.folder / CONFIG} has {name}={value!r}: expected a whole number of 1 or more")
    return value


def _run_config(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the configuration of the run, which lies above the hookpoint and its seed, and what is wrong with it."""
    for one in (folder, *folder.absolute().parents[:3]):
        path = one / RUN_CONFIG
        if not path.is_file():
            continue
        try:
            config = read_json(path)
        except ValueError as error:
            return {}, [f"{error}; so nothing is known of the training"]
        if "sae" in config and ("hookpoints" in config or "layers" in config):
            return config, []
    return {}, []


def _stated(folder: Path, run: Mapping[str, Any], d_sae: int) -> tuple[dict[str, Any], list[str]]:
    """Return what the run's configuration and the names of the folders say, with notes on it."""
    stated, notes = _place_in_model(folder, run)
    names = {"model": "model", "dataset": "dataset", "context_length": "ctx_len", "learning_rate": "lr"}
    stated.update({ours: run[theirs] for ours, theirs in names.items() if run.get(theirs) is not None})
    seeds = run.get("init_seeds")
    if isinstance(seeds, list) and len(seeds) == 1:
        stated.setdefault("seed", seeds[0])
    rows, tokens, batches = run.get("batch_size"), run.get("ctx_len"), run.get("grad_acc_steps", 1)
    if isinstance(rows, int) and isinstance(tokens, int) and isinstance(batches, int):
        stated["batch_size"] = rows * tokens * batches
        notes.append(f"batch_size is that of one process: {rows * batches} rows of {tokens} tokens")
    optimizer = str(run.get("optimizer", "adam"))
    if run and run.get("lr") is None and optimizer in _LEARNING_RATES:
        rate = _LEARNING_RATES[optimizer] / (1 if optimizer == "muon" else (d_sae / 2**14) ** 0.5)
        notes.append(f"the run's learning rate is null, for which sparsify takes {rate:.3g} with {optimizer}")
    return stated, notes


def _place_in_model(folder: Path, run: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return hook, layer and seed from names such as layers.3.mlp/seed1, with notes on them."""
    stated: dict[str, Any] = {}
    folder = folder.absolute()
    if seed := re.fullmatch(r"seed(\d+)", folder.name):
        stated["seed"] = int(seed[1])
        folder = folder.parent
    layer = re.search(r"(?:^|\.)(?:layers?|h|blocks)[._](\d+)(?=\.|$)", folder.name)
    hookpoints = run.get("hookpoints")
    if layer or (isinstance(hookpoints, list) and folder.name in hookpoints) or folder.name == "embed_tokens":
        stated["hook"] = folder.name
    if layer:
        stated["layer"] = int(layer[1])
    if layer and layer[0].startswith("layer_"):
        return stated, [
            f"{folder.name} is a name of old releases, the first of which took the input of block {layer[1]} and later "
            "ones its output: compare l0 and explained variance at both"
        ]
    return stated, []
