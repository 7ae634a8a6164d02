"""What the report says of latents from their decoder directions, without reading any data."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from sae_lightning.explain.logit_effects import TEXT_DATA, direct_logit_effects
from sae_lightning.explain.related_latents import meta_latents_of, neighbours
from sae_lightning.metrics import best_match, cosine_to_start
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.saes.saving import dead_latents
from sae_lightning.stitching.results import read_insertions

_N_TOKENS = 8
_N_RELATED = 6


def of_directions(
    run: Path, folder: Path, member: str, sae: SparseAutoencoder, datamodule: Any, latents: Sequence[int]
) -> list[dict[str, Any]]:
    """For each latent its drift, neighbours, logits, classes, true feature and meta-latents, where there are any."""
    W_dec, chosen = sae.W_dec.detach(), list(latents)  # noqa: N806
    drift = cosine_to_start(W_dec[chosen], sae.W_dec_start[chosen])
    near, dead = neighbours(W_dec, chosen, _N_RELATED), dead_latents(folder)
    logits = direct_logit_effects(datamodule, W_dec[chosen], _N_TOKENS) if isinstance(datamodule, TEXT_DATA) else None
    records: list[dict[str, Any]] = []
    for i, (latent, classes) in enumerate(zip(chosen, read_insertions(run, member, chosen), strict=True)):
        record: dict[str, Any] = {
            "latent": latent,
            "dead": None if dead is None else latent in dead,
            "cosine_to_start": short(drift[i]),
            "neighbours": [[of.latent, short(of.value)] for of in near[i]],
            "stitched": [
                {name: of if isinstance(of, str) else short(of) for name, of in row.items()} for row in classes
            ],
        }
        for name, pairs in (logits[i] if logits else {}).items():
            record[name] = [[token, short(value)] for token, value in pairs]
        records.append(record)
    features = getattr(getattr(datamodule, "source", None), "features", None)
    if features is not None:
        nearest = best_match(W_dec[chosen], features.to(W_dec))
        cosines = cosine_to_start(W_dec[chosen], features.to(W_dec)[nearest])
        for record, number, cosine in zip(records, nearest.tolist(), cosines, strict=True):
            record["feature"] = [number, short(cosine)]
    if (meta := meta_sae_of(run, folder)) is not None and meta.d_in == sae.d_in:
        of_latents = meta_latents_of(meta.to(W_dec.device), W_dec, chosen, _N_RELATED)
        for record, (found, explained) in zip(records, of_latents, strict=True):
            of_meta = [[of.latent, short(of.value), [[o.latent, short(o.value)] for o in of.others]] for of in found]
            record["meta"] = {"explained": short(explained), "latents": of_meta}
    return records


def meta_sae_of(run: Path, folder: Path) -> SparseAutoencoder | None:
    """The meta-SAE of an SAE from the newest of the runs beside this one that has one; of several seeds the first."""
    configs = run.resolve().parent.parent.glob("*/*/config.yaml")
    for config in sorted(configs, key=lambda path: path.stat().st_mtime, reverse=True):
        text = config.read_text(encoding="utf-8")
        data = yaml.safe_load(text).get("data") if "DecoderDirections" in text else None
        bases = data["init_args"]["saes"] if data and data["class_path"].endswith("DecoderDirections") else []
        if folder.resolve() in [Path(base).resolve() for base in bases]:
            for sae in sorted(config.parent.glob("saes/trained/*/sae.safetensors")):
                return SparseAutoencoder.load(sae.parent)
    return None


def short(value: float | Tensor) -> float | None:
    """Three digits, since more cannot be seen and would be half of the page; None for what is no number."""
    return float(f"{float(value):.3g}") if math.isfinite(value) else None
