"""An SAE on disk: `sae.safetensors` with the tensors, `sae.json` with class, settings and the scale folded in.

Under `dead` `sae.json` lists the latents that were dead when the SAE was saved; under `provenance` it says what the SAE
is of: activations (model, a fingerprint of its weights, hook), data, training, and what was measured of it last.
Format 1 has no provenance, format 2 no `input_norm` and no `unit_norm_decoder`; format 4, which transcoders have, is
format 3 with `d_out`, `skip` and the scale of the target beside that of the input; format 5, which crosscoders have, is
format 3 with the widths of the parts, and the scale of each column in `input_scale`, which is not folded in.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

import sae_lightning.saes
from sae_lightning import formats
from sae_lightning.formats import StoredSAE
from sae_lightning.formats.hub import local
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.fingerprint import fingerprint
from sae_lightning.saes.finite import refuse_non_finite
from sae_lightning.saes.inputs import non_finite
from sae_lightning.saes.stated import stated_of
from sae_lightning.saes.transcoder import refuse_crosscoders
from sae_lightning.whole_files import whole_file, write_whole

FORMAT, FORMAT_VERSION = "sae_lightning", 5
"""The newest version of the format, in which crosscoders are written."""
SAE_FORMAT_VERSION, TRANSCODER_FORMAT_VERSION = 3, 4
"""Those that SAEs and transcoders are written in: older versions still read them."""
_EXPECTED = "expected the sae.json and sae.safetensors that `sae fit` or SparseAutoencoder.save left there"

TRAINING_ONLY = ("samples_since_fired", "last_smallest", "log_factor")
"""Buffers that only training reads; they are not saved."""
_OF_TRAINING = ("W_dec_start", "W_enc_start", "input_scale", "target_scale")
"""What no other library keeps: where directions started, and scales, which are folded in."""


def save(sae: SparseAutoencoder, folder: Path) -> None:
    """Write the SAE so that it takes raw activations without scaling.

    With s x the scaled input, biases and thresholds are divided by s. The function stays the same, decoder directions
    stay unit vectors, and latents are in the units of the activations (the convention of dictionary_learning). Of a
    transcoder whose answer is scaled by t, the encoder and the skip path are multiplied by s / t and biases and
    thresholds divided by t, so that directions stay unit vectors and latents are in the units of the answer. The scales
    of a crosscoder are kept: folded in, they would weigh the norms of its parts by those of the activations.

    Args:
        sae: not changed.
        folder: created if needed.

    Raises:
        ValueError: if the SAE has no start yet or is not finite, or if it cannot be written, which leaves an older one.
    """
    if not sae.is_initialised:
        raise ValueError(
            "nothing to save: this SAE takes its start from data, call initialise(seed, samples) or train it"
        )
    refuse_non_finite(sae, f"the SAE for {folder}")
    manifest = {
        "format": FORMAT,
        "format_version": _format_version(sae),
        "class": type(sae).__name__,
        "policy": sae.policy_name,
        "settings": sae.settings(),
        "fold": _fold(sae),
        "dead": sae.dead.nonzero()[:, 0].tolist(),
        "provenance": dict(sae.provenance),
    }
    text = json.dumps(manifest, indent=2) + "\n"
    with whole_file(folder / "sae.safetensors") as part:
        save_file(_apart(tensors_to_save(sae)), part)
    write_whole(folder / "sae.json", text)


def _format_version(sae: SparseAutoencoder) -> int:
    return FORMAT_VERSION if sae.columns else TRANSCODER_FORMAT_VERSION if sae.is_transcoder else SAE_FORMAT_VERSION


def _fold(sae: SparseAutoencoder) -> dict[str, Any]:
    """Say which scale the tensors are without."""
    if sae.columns:
        return {"convention": "none: input_scale has the scale of each column", "scale": 1.0}
    target_scale = {"target_scale": float(sae.target_scale)} if sae.is_transcoder else {}
    return {"convention": "E||x||^2 = 1, into the biases", "scale": float(sae.input_scale)} | target_scale


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous tensors on the CPU no two of which share memory, as those of a control of an SAE may."""
    apart: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.contiguous().cpu()
        shared = any(tensor.data_ptr() == other.data_ptr() for other in apart.values())
        apart[name] = tensor.clone() if shared else tensor
    return apart


def tensors_to_save(sae: SparseAutoencoder) -> dict[str, Tensor]:
    """Return the tensors of `sae.safetensors`, the scale of the input folded in unless it has parts, where they are.

    Raises:
        ValueError: if the SAE is split over ranks.
    """
    if sae.mesh.size > 1:
        raise ValueError(
            f"this rank has {len(sae.b_enc)} of {sae.d_sae} latents: call sae_lightning.saes.splitting.whole(sae) on "
            "all ranks, and save what it returns on the first"
        )
    tensors = {name: tensor for name, tensor in sae.state_dict().items() if _is_kept(name)}
    if sae.columns:
        return tensors
    one = torch.ones_like(sae.input_scale)
    tensors.update({name: tensors[name] / sae.output_scale for name in sae.in_scaled_units}, input_scale=one)
    if sae.is_transcoder:
        ratio = sae.input_scale / sae.target_scale
        tensors.update({name: tensors[name] * ratio for name in ("W_enc", "W_skip") if name in tensors})
        tensors["target_scale"] = one
    return tensors


def fingerprint_of_saved(folder: Path) -> str:
    """Return the fingerprint of an exported SAE, which is that of the SAE it was saved from."""
    return fingerprint(load_file(folder / "sae.safetensors"))


def load(where: Path | str, assumed: Mapping[str, Any] | None = None) -> SparseAutoencoder:
    """Read an SAE in evaluation mode: what `save` wrote, or another library.

    Args:
        where: see `formats.read`.
        assumed: what a foreign file does not say.

    Raises:
        ValueError: if it holds no SAE, an SAE with missing or unknown tensors, or several formats.
    """
    path = local(where)
    if not formats.is_own(path):
        return from_stored(formats.read(path, assumed), str(where))
    if others := formats.formats_in(path):
        raise ValueError(
            f"{path} holds files of sae_lightning and of {' and '.join(others)}: name the weight file that is meant, "
            "or put them into folders of their own"
        )
    if assumed:
        raise ValueError(f"{path} is an SAE of sae_lightning, which says all: nothing is to be assumed of it")
    return _load_own(path)


def from_stored(stored: StoredSAE, where: str) -> SparseAutoencoder:
    """Return the SAE that another library's file holds, in evaluation mode.

    Its decoder directions keep the norms they have, and its start is where it is now.

    Args:
        stored: what an adapter read.
        where: from; kept in `provenance`.

    Raises:
        ValueError: if the settings do not fit the tensors.
    """
    variant: type[SparseAutoencoder] = getattr(sae_lightning.saes, stored.variant)
    settings = {"unit_norm_decoder": stored.has_unit_norm_decoder, **stored.settings}
    sae = variant(stored.d_in, d_sae=stored.d_sae, **settings)
    expected = {name for name in sae.state_dict() if _is_kept(name)} - set(_OF_TRAINING)
    if set(stored.tensors) != expected:
        raise ValueError(f"{where}: has the tensors {sorted(stored.tensors)}, expected {sorted(expected)}")
    starts = {"W_dec_start": stored.tensors["W_dec"], "input_scale": torch.ones(())}
    if sae.is_transcoder:
        starts |= {"W_enc_start": stored.tensors["W_enc"].T, "target_scale": torch.ones(())}
    sae.load_state_dict({**stored.tensors, **starts}, strict=False)
    sae.provenance = {"imported": stored.provenance(where)}
    return sae.eval()


def to_stored(sae: SparseAutoencoder) -> StoredSAE:
    """Return an SAE as an adapter writes it, its scale folded in, with what is known of its training.

    Raises:
        ValueError: if it is a crosscoder, which no adapter writes.
    """
    refuse_crosscoders([sae], "the format of another library")
    tensors = tensors_to_save(sae)
    computed = {name: value for name, value in sae.settings().items() if name not in ("d_in", "d_sae", "seed")}
    del computed["unit_norm_decoder"]
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items() if name not in _OF_TRAINING}
    version, stated = sae_lightning.__version__, stated_of(sae.provenance)
    return StoredSAE(FORMAT, type(sae).__name__, tensors, computed, version=version, stated=stated)


def _load_own(folder: Path) -> SparseAutoencoder:
    manifest_path, tensor_path = folder / "sae.json", folder / "sae.safetensors"
    manifest = read_manifest(folder)
    try:
        tensors = load_file(tensor_path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{tensor_path} is damaged, cut off or no safetensors file ({error}); {_EXPECTED}") from error
    try:
        sae = _new(manifest, manifest_path)
        sae.policy_name = manifest["policy"]
        expected = {name: tuple(tensor.shape) for name, tensor in sae.state_dict().items() if _is_kept(name)}
        sae.samples_since_fired[manifest.get("dead", [])] = sae.dead_after_samples
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{manifest_path} is damaged: {error!r}; {_EXPECTED}") from error
    if set(tensors) != set(expected):
        raise ValueError(f"{tensor_path}: has the tensors {sorted(tensors)}, expected {sorted(expected)}")
    if other := [name for name, tensor in tensors.items() if tuple(tensor.shape) != expected[name]]:
        shapes = f"{other[0]} {list(tensors[other[0]].shape)}, and {manifest_path.name} says {list(expected[other[0]])}"
        raise ValueError(f"{tensor_path}: {shapes}: the two files do not belong together")
    for name, _ in sae.named_parameters():  # and no buffer: a BatchTopK that was never trained has no threshold yet
        if problem := non_finite(tensors[name]):
            raise ValueError(f"{tensor_path}: {name} {problem}; this SAE diverged in training, or its file is damaged")
    sae.load_state_dict(tensors, strict=False)
    sae.provenance = manifest.get("provenance", {})
    return sae.eval()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read `sae.json`.

    Raises:
        ValueError: if there is none, or none that this version reads.
    """
    path = folder / "sae.json"
    if not path.is_file() or not (folder / "sae.safetensors").is_file():
        raise ValueError(f"{folder}: expected sae.json and sae.safetensors in it, such as <run>/saes/trained/0")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged or cut off ({error}); {_EXPECTED}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{path} is not of an SAE of sae_lightning (format {_format_of(manifest)!r}); {_EXPECTED}")
    version = manifest.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        wrote = manifest.get("provenance", {}).get("sae_lightning", "a newer version")
        raise ValueError(
            f"{path} has format_version {version}, written by sae_lightning {wrote}; this version, "
            f"{sae_lightning.__version__}, reads up to {FORMAT_VERSION}: take a newer one"
        )
    return manifest


def _format_of(manifest: Any) -> Any:
    return manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__


def _new(saved: dict[str, Any], path: Path) -> SparseAutoencoder:
    """Return an SAE of the saved class and settings, among which there may be other SAEs."""
    variant = getattr(sae_lightning.saes, saved.get("class", ""), None)
    if not (isinstance(variant, type) and issubclass(variant, SparseAutoencoder)):
        raise ValueError(f"{path}: class {saved.get('class')!r} is not a variant of this version")
    settings: dict[str, Any] = {
        name: _new(value, path) if isinstance(value, dict) and "class" in value else value
        for name, value in saved["settings"].items()
    }
    try:
        return variant(**settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged, or of another version: {error}; {_EXPECTED}") from error


def _is_kept(name: str) -> bool:
    """Return whether a tensor of an SAE, or of an SAE within it, is read outside training."""
    return name.split(".")[-1] not in TRAINING_ONLY


def dead_latents(where: Path) -> list[int] | None:
    """Return the latents of a saved SAE that were dead when it was saved; None if its file does not list them."""
    return read_manifest(where).get("dead") if formats.is_own(where) else None


def knows_its_activations(where: Path) -> bool:
    """Return whether the file of an SAE says by their weights which activations it is of."""
    return formats.is_own(where) and "activations" in read_manifest(where).get("provenance", {})


def folded_scale(folder: Path) -> float:
    """Return the scale s that was folded in: a latent of the saved SAE is 1/s times its value in training.

    Of a transcoder that is the scale of its target.
    """
    fold = read_manifest(folder)["fold"]
    return float(fold.get("target_scale", fold["scale"]))
