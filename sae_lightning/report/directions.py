"""What the report says about latents from their decoder directions, without reading any data."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jaxtyping import Float
from torch import Tensor

from sae_lightning.datamodules import ActivationDataModule
from sae_lightning.explain.logit_effects import TEXT_DATA, direct_logit_effects
from sae_lightning.explain.related_latents import meta_latents_of, neighbours
from sae_lightning.members import Member
from sae_lightning.metrics import best_match, cosine_to_start
from sae_lightning.runs import Run
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.saes.crosscoder import norm_shares
from sae_lightning.saes.data import columns_by_part
from sae_lightning.saes.saving import dead_latents
from sae_lightning.stitching.results import read_insertions

_N_TOKENS = 8
_N_RELATED = 6


def direction_records(
    run: Run,
    member: Member,
    sae: SparseAutoencoder,
    datamodule: ActivationDataModule | None,
    latents: Sequence[int],
    others: Mapping[str, Float[Tensor, "d_sae d_in"]] | None = None,
) -> list[dict[str, Any]]:
    """Return for each latent drift, neighbours, logits, classes, true feature and meta-latents, where there are any.

    Args:
        run: a finished run.
        member: an SAE of it.
        sae: that SAE.
        datamodule: of the run; None where it cannot be made.
        latents: which are shown.
        others: decoders of other SAEs by name, in which the nearest latent is looked for.
    """
    W_dec, chosen, folder = sae.W_dec.detach(), list(latents), run.sae_folder(member)  # noqa: N806
    drift = cosine_to_start(W_dec[chosen], sae.W_dec_start[chosen])
    near, dead = neighbours(W_dec, chosen, _N_RELATED), dead_latents(folder)
    logits = direct_logit_effects(datamodule, W_dec[chosen], _N_TOKENS) if isinstance(datamodule, TEXT_DATA) else None
    shares = norm_shares(W_dec[chosen], sae.columns) if sae.crosscoder else W_dec[:0]
    elsewhere = {name: _nearest(W_dec[chosen], rows) for name, rows in (others or {}).items()}
    records: list[dict[str, Any]] = []
    for i, (latent, classes) in enumerate(zip(chosen, read_insertions(run.folder, str(member), chosen), strict=True)):
        record: dict[str, Any] = {
            "latent": latent,
            "dead": None if dead is None else latent in dead,
            "cosine_to_start": short(drift[i]),
            "neighbours": [[related.latent, short(related.value)] for related in near[i]],
            "elsewhere": [[name, *nearest[i]] for name, nearest in elsewhere.items()],
            "stitched": [
                {name: value if isinstance(value, str) else short(value) for name, value in row.items()}
                for row in classes
            ],
        }
        if sae.crosscoder:
            record["parts"] = [[part, short(share)] for part, share in zip(sae.columns, shares[:, i], strict=True)]
        if logits:
            for name in ("promoted", "suppressed"):
                record[name] = [[token, short(value)] for token, value in logits[i][name]]
            ends = {end: short(logits[i]["histogram"][end]) for end in ("low", "high")}
            record["logits"] = ends | {"counts": logits[i]["histogram"]["counts"]}
        records.append(record)
    features = datamodule.source.features if datamodule is not None else None
    if features is not None and datamodule is not None and (widths := datamodule.hook_widths):
        features = features[:, columns_by_part(widths).get(run.targets.get(member.part, member.part), slice(None))]
    if features is not None:
        features = features.to(W_dec) * sae.input_scale if sae.crosscoder else features
        nearest = best_match(W_dec[chosen], features.to(W_dec))
        cosines = cosine_to_start(W_dec[chosen], features.to(W_dec)[nearest])
        for record, number, cosine in zip(records, nearest.tolist(), cosines, strict=True):
            record["feature"] = [number, short(cosine)]
    if (meta := meta_sae_of(run.folder, folder)) is not None and meta.d_in == sae.d_in:
        decomposed = meta_latents_of(meta.to(W_dec.device), W_dec, chosen, _N_RELATED)
        for record, (meta_latents, explained) in zip(records, decomposed, strict=True):
            rows = [
                [one.latent, short(one.value), [[other.latent, short(other.value)] for other in one.others]]
                for one in meta_latents
            ]
            record["meta"] = {"explained": short(explained), "latents": rows}
    return records


def meta_sae_of(run: Path, folder: Path) -> SparseAutoencoder | None:
    """Load the meta-SAE of an SAE from the newest of the runs beside this one that has one; of several seeds the first.

    Args:
        run: folder of the run.
        folder: of the SAE.
    """
    configs = run.resolve().parent.parent.glob("*/*/config.yaml")
    for config in sorted(configs, key=lambda path: path.stat().st_mtime, reverse=True):
        text = config.read_text(encoding="utf-8")
        data = yaml.safe_load(text).get("data") if "DecoderDirections" in text else None
        bases = data["init_args"]["saes"] if data and data["class_path"].endswith("DecoderDirections") else []
        if folder.resolve() in [Path(base).resolve() for base in bases]:
            for sae in sorted(config.parent.glob("saes/trained/*/sae.safetensors")):
                return SparseAutoencoder.load(sae.parent)
    return None


def _nearest(directions: Float[Tensor, "n d_in"], rows: Float[Tensor, "d_sae d_in"]) -> list[tuple[int, float | None]]:
    """Return for each direction the row with the largest cosine to it, and that cosine."""
    nearest = best_match(directions, rows)
    cosines = cosine_to_start(directions, rows[nearest])
    return [(int(row), short(cosine)) for row, cosine in zip(nearest, cosines, strict=True)]


def short(value: float | Tensor) -> float | None:
    """Keep three digits, since more cannot be seen and would be half of the page; None where it is not finite."""
    return float(f"{float(value):.3g}") if math.isfinite(value) else None
