"""An SAE on disk: `sae.safetensors` with the tensors, `sae.json` with class, settings and the scale folded in.

Under `dead` `sae.json` lists the latents that were dead when the SAE was saved.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import sae_lightning.saes
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.fingerprint import fingerprint

TRAINING_ONLY = ("samples_since_fired", "last_smallest")
"""Buffers that only training reads; they are not saved."""


def save(sae: SparseAutoencoder, folder: Path) -> None:
    """Write the SAE so that it takes raw activations without scaling.

    With s x the scaled input, biases and thresholds are divided by s. The function stays the same, decoder directions
    stay unit vectors, and latents are in the units of the activations (the convention of dictionary_learning).

    Args:
        sae: not changed.
        folder: created if needed.

    Raises:
        ValueError: if the SAE has no start yet.
    """
    if not sae.is_initialised:
        raise ValueError(
            "nothing to save: this SAE takes its start from data, call initialise(seed, samples) or train it"
        )
    scale = sae.input_scale
    folder.mkdir(parents=True, exist_ok=True)
    saved = {name: tensor.contiguous().cpu() for name, tensor in tensors_to_save(sae).items()}
    save_file(saved, folder / "sae.safetensors")
    manifest = {
        "format": "sae_lightning",
        "format_version": 1,
        "class": type(sae).__name__,
        "policy": sae.policy_name,
        "settings": sae.settings(),
        "fold": {"convention": "E||x||^2 = 1, into the biases", "scale": float(scale)},
        "dead": sae.dead.nonzero()[:, 0].tolist(),
    }
    (folder / "sae.json").write_text(json.dumps(manifest, indent=2) + "\n")


def tensors_to_save(sae: SparseAutoencoder) -> dict[str, Tensor]:
    """Return the tensors of `sae.safetensors`, the scale of the input folded in, where they are."""
    tensors = {name: tensor for name, tensor in sae.state_dict().items() if _is_kept(name)}
    scale = sae.input_scale
    tensors.update({name: tensors[name] / scale for name in sae.in_scaled_units}, input_scale=torch.ones_like(scale))
    return tensors


def fingerprint_of_saved(folder: Path) -> str:
    """Return the fingerprint of an exported SAE, which is that of the SAE it was saved from."""
    return fingerprint(load_file(folder / "sae.safetensors"))


def load(folder: Path) -> SparseAutoencoder:
    """Read what `save` wrote, in evaluation mode.

    Raises:
        ValueError: if the folder holds no SAE of ours, or one with missing or unknown tensors.
    """
    manifest_path, tensor_path = folder / "sae.json", folder / "sae.safetensors"
    if not manifest_path.is_file() or not tensor_path.is_file():
        raise ValueError(f"{folder}: expected sae.json and sae.safetensors in it, such as <run>/saes/trained/0")
    manifest = json.loads(manifest_path.read_text())
    sae = _new(manifest, manifest_path)
    sae.policy_name = manifest["policy"]
    tensors = load_file(tensor_path)
    expected = {name for name in sae.state_dict() if _is_kept(name)}
    if set(tensors) != expected:
        raise ValueError(f"{tensor_path}: has the tensors {sorted(tensors)}, expected {sorted(expected)}")
    sae.load_state_dict(tensors, strict=False)
    sae.samples_since_fired[manifest.get("dead", [])] = sae.dead_after_samples
    sae.is_initialised = True
    return sae.eval()


def _new(saved: dict[str, Any], path: Path) -> SparseAutoencoder:
    """Return an SAE of the saved class and settings, among which there may be other SAEs."""
    variant = getattr(sae_lightning.saes, saved.get("class", ""), None)
    if not (isinstance(variant, type) and issubclass(variant, SparseAutoencoder)):
        raise ValueError(f"{path}: class {saved.get('class')!r} is not a variant of this version")
    settings: dict[str, Any] = {
        name: _new(value, path) if isinstance(value, dict) and "class" in value else value
        for name, value in saved["settings"].items()
    }
    return variant(**settings)


def _is_kept(name: str) -> bool:
    """Return whether a tensor of an SAE, or of an SAE within it, is read outside training."""
    return name.split(".")[-1] not in TRAINING_ONLY


def dead_latents(folder: Path) -> list[int] | None:
    """Return the latents of a saved SAE that were dead when it was saved; None if its file does not list them."""
    return json.loads((folder / "sae.json").read_text()).get("dead")


def folded_scale(folder: Path) -> float:
    """Return the scale s that was folded in: a latent of the saved SAE is 1/s times its value in training."""
    return float(json.loads((folder / "sae.json").read_text())["fold"]["scale"])
