"""Everything that is known of one latent of a finished run, as plain values by name."""

from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.datamodules import ActivationDataModule, ClipImages
from sae_lightning.evaluators.auto_interp import FILE_NAME
from sae_lightning.explain.logit_effects import TEXT_DATA, direct_logit_effects
from sae_lightning.explain.related_latents import meta_latents_of, nearest_latents, neighbours
from sae_lightning.interpretation.excerpts import Example, Excerpt, Excerpts
from sae_lightning.interpretation.strongest import kept_line, max_activating_examples, max_activating_images, top_tokens
from sae_lightning.members import TRAINED, Member
from sae_lightning.provenance import refuse_other_activations
from sae_lightning.runs import Run
from sae_lightning.runs.run import SAES_FOLDER
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.saes.crosscoder import norm_shares
from sae_lightning.saes.saving import dead_latents
from sae_lightning.saes.stated import stated_of
from sae_lightning.saes.transcoder import part_read_by, refuse_several_hooks
from sae_lightning.stitching.results import read_insertions

_EXCERPT_LENGTH = 32


def explain(
    run: Run,
    member: Member,
    latent: int,
    *,
    meta: Path | None = None,
    smaller: Path | None = None,
    n: int = 5,
    n_tokens: int = 32768,
    n_images: int = 1000,
) -> dict[str, Any]:
    """Collect what is known of a latent.

    Args:
        run: a finished run.
        member: which of its SAEs.
        latent: its number.
        meta: run folder of a meta-SAE of this SAE; of several seeds the first is taken.
        smaller: folder of a smaller SAE.
        n: how many texts or images, tokens and related latents.
        n_tokens: most held-out tokens to read.
        n_images: most held-out images to read.

    Returns:
        Values by name; None where there is no such thing, as text, a meta-SAE or a smaller SAE.

    Raises:
        ValueError: if there is no such latent, or what was given does not belong to it.
    """
    folder, sae = run.sae_folder(member), run.load(member)
    explanation = _of_weights(sae, folder, str(member), latent, smaller, n) | {
        "run": str(run.folder),
        "meta": None if meta is None else _meta(meta, folder, sae.W_dec.detach(), latent, n),
        "stitched": read_insertions(run.folder, str(member), [latent])[0],
        "stability": _stability(run, member, latent),
    }
    part = member.part
    if part in run.nulls:
        raise ValueError(
            f"MEMBER {member}: this SAE was trained on {part}, a null version of the activations, of which there is "
            "nothing to explain; give one of the activations themselves, such as trained/0"
        )
    datamodule = run.datamodule((*TEXT_DATA, ClipImages))
    if datamodule is None:
        return explanation
    datamodule.refuse_sae_of_others(sae, str(folder), part)
    part = part_read_by(member, sae, run.targets)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sae.to(device)
    datamodule.source.to(device)
    kept = kept_line(run.folder / FILE_NAME, member, latent)
    return explanation | _of_activations(datamodule, sae, part, latent, n, n_tokens, n_images, kept)


def explain_sae(
    sae: SparseAutoencoder,
    where: Path,
    latent: int,
    datamodule: ActivationDataModule,
    *,
    smaller: Path | None = None,
    n: int = 5,
    n_tokens: int = 32768,
    n_images: int = 1000,
) -> dict[str, Any]:
    """Collect what is known of a latent of an SAE that is of no run.

    Args:
        sae: in evaluation mode.
        where: it was read from.
        latent: its number.
        datamodule: whose held-out text or images it is to read, on the same device.
        smaller: a smaller SAE.
        n: how many texts or images, tokens and related latents.
        n_tokens: most held-out tokens to read.
        n_images: most held-out images to read.

    Returns:
        What `explain` returns.

    Raises:
        ValueError: if there is no such latent, or these activations are of neither text nor images.
    """
    if not isinstance(datamodule, (*TEXT_DATA, ClipImages)):
        kinds = ", ".join(kind.__name__ for kind in (*TEXT_DATA, ClipImages))
        raise ValueError(f"data={type(datamodule).__name__}: a latent is explained by text or images, of {kinds}")
    of_weights = _of_weights(sae, where, where.name, latent, smaller, n)
    return of_weights | _of_activations(datamodule, sae, "", latent, n, n_tokens, n_images, None)


def _of_weights(
    sae: SparseAutoencoder, where: Path, name: str, latent: int, smaller: Path | None, n: int
) -> dict[str, Any]:
    """Return what is known of a latent without activations, and None for what is not."""
    if not 0 <= latent < sae.d_sae:
        raise ValueError(f"LATENT {latent}: {name} has {sae.d_sae} latents; expected 0 to {sae.d_sae - 1}")
    dead, stated = dead_latents(where), stated_of(sae.provenance) if sae.is_transcoder else {}
    hook = sae.provenance.get("activations", {}).get("hook")
    shares = norm_shares(sae.W_dec.detach()[latent][None], sae.columns)[:, 0].tolist() if sae.crosscoder else []
    return {
        "run": str(where),
        "member": name,
        "latent": latent,
        "d_sae": sae.d_sae,
        "dead": None if dead is None else latent in dead,
        "reads": stated.get("hook"),
        "answers_at": stated.get("target"),
        "parts": [
            {"part": part, "hook": hook.get(part) if isinstance(hook, dict) else None, "norm_share": share}
            for part, share in zip(sae.columns, shares, strict=True)
        ],
        "neighbours": [asdict(neighbour) for neighbour in neighbours(sae.W_dec.detach(), [latent], n)[0]],
        "meta": None,
        "smaller": None if smaller is None else _smaller(smaller, sae, latent, n),
        "stitched": [],
        "stability": None,
        "text": None,
        "images": None,
        "logits": None,
    }


def _stability(run: Run, member: Member, latent: int) -> dict[str, Any] | None:
    """Return what SeedAgreement measured of a latent; None where it did not, or where the latent did not fire."""
    stability, above = (run.of_latents(name, member) for name in ("stability", "stability_above_random"))
    if stability is None or above is None or not isfinite(stability[latent]):
        return None
    seeds = [other for other in run.saes if (other.policy, other.part) == (member.policy, member.part)]
    return {
        "cosine": float(stability[latent]),
        "above_random": float(above[latent]),
        "n_other_seeds": len(seeds) - 1,
    }


def _of_activations(
    datamodule: Any,
    sae: SparseAutoencoder,
    part: str,
    latent: int,
    n: int,
    n_tokens: int,
    n_images: int,
    kept: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return what held-out text or images say of a latent; of text what AutoInterp has kept, if there is any."""
    if isinstance(datamodule, ClipImages):
        return {"images": _images(datamodule, sae, part, latent, n, n_images)}
    text = _read_text(datamodule, sae, part, latent, n, n_tokens) if kept is None else _kept_text(kept, n)
    effects = direct_logit_effects(datamodule, sae.W_dec[latent][None], n)
    return {"text": text, "logits": effects and effects[0]}


def _meta(
    folder: Path,
    base: Path,
    W_dec: Float[Tensor, "d_sae d_in"],
    latent: int,
    n: int,
) -> dict[str, Any]:
    run = Run(folder)
    if not run.data["class_path"].endswith("DecoderDirections"):
        raise ValueError(
            f"--meta {folder}: expected a run whose data are DecoderDirections of {base}, such as one of "
            "configs/experiment/meta_sae_pocket_lm.yaml"
        )
    member = next((member for member in run.saes if member.policy == TRAINED), None)
    if member is None:
        raise ValueError(f"--meta {folder}: no trained SAE in {folder / SAES_FOLDER}, which a finished fit leaves")
    meta = run.load(member)
    _check_width("--meta", folder, meta, W_dec.shape[1])
    [(meta_latents, explained)] = meta_latents_of(meta, W_dec, [latent], n)
    bases = run.data["init_args"]["saes"]
    return {
        "sae": str(run.saes[member]),
        "d_sae": meta.d_sae,
        "bases": bases,
        "is_of_this_sae": base.resolve() in [Path(own).resolve() for own in bases],
        "explained": explained,
        "meta_latents": [asdict(meta_latent) for meta_latent in meta_latents],
    }


def _smaller(folder: Path, sae: SparseAutoencoder, latent: int, n: int) -> dict[str, Any]:
    smaller = SparseAutoencoder.load(folder)
    refuse_several_hooks([sae, smaller], "--smaller")
    _check_width("--smaller", folder, smaller, sae.d_in)
    refuse_other_activations(f"--smaller {folder}", smaller.provenance, sae.provenance.get("activations"))
    return {
        "sae": str(folder),
        "d_sae": smaller.d_sae,
        "nearest": [asdict(nearest) for nearest in nearest_latents(sae.W_dec[latent].detach(), smaller.W_dec, n)],
    }


def _check_width(option: str, folder: Path, sae: SparseAutoencoder, d_in: int) -> None:
    if sae.d_in != d_in:
        raise ValueError(f"{option} {folder} has d_in={sae.d_in}, and the SAE to explain {d_in}: they do not belong")


def _kept_text(line: dict[str, Any], n: int) -> dict[str, Any]:
    """Return what AutoInterp has kept of a latent."""
    examples = [
        Example(Excerpt(tuple(example["tokens"]), 0), tuple(example["activations"])) for example in line["examples"]
    ]
    kept = {name: line[name] for name in ("frequency", "explanation", "score")}
    return {"from": FILE_NAME, **kept, **_examples(examples, n)}


@torch.no_grad()
def _read_text(
    datamodule: Any, sae: SparseAutoencoder, part: str, latent: int, n: int, n_tokens: int
) -> dict[str, Any]:
    """Read held-out text for the excerpts on which the latent fires most strongly."""
    packing = datamodule.packing
    length = min(_EXCERPT_LENGTH, packing.context_length)
    excerpts = Excerpts(datamodule.heldout_rows(n_tokens), length, packing.tokenizer)
    examples, frequency = max_activating_examples(datamodule, sae, part, latent, excerpts, n)
    judged = {"frequency": frequency, "explanation": None, "score": None}
    return {"from": "the held-out text", **judged, **_examples(examples, n)}


def _examples(examples: Sequence[Example], n: int) -> dict[str, Any]:
    return {
        "top_tokens": top_tokens(examples, n),
        "examples": [
            {"tokens": example.excerpt.tokens, "activations": [float(f"{a:.4g}") for a in example.activations]}
            for example in examples[:n]
        ],
    }


@torch.no_grad()
def _images(
    datamodule: ClipImages, sae: SparseAutoencoder, part: str, latent: int, n: int, n_images: int
) -> dict[str, Any]:
    """Read held-out images for those on which the latent fires most strongly."""
    strongest, frequency = max_activating_images(datamodule, sae, part, latent, n_images, n)
    images = datamodule.images
    examples = [
        {
            "image": number,
            "name": images.name(number),
            "activation": float(f"{activation:.4g}"),
            "shows": images.shown(number),
        }
        for number, activation in strongest
    ]
    return {"frequency": frequency, "examples": examples}
