"""What a larger SAE has that a smaller one lacks, as ``sae stitch`` left it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sae_lightning.figures.chart import Table
from sae_lightning.report.section import Group, Section
from sae_lightning.runs import Run
from sae_lightning.stitching.figures import curve_charts
from sae_lightning.stitching.results import COMPARISON_FILE

_HEAD = ("class", "latents", "share", "of firings", "largest cosine", "change of the error", "share, shuffled")


def stitching(run: Run) -> Iterator[Section]:
    """Show each pair that was compared."""
    groups = [pair for _, pair in run.found(f"stitch/*/{COMPARISON_FILE}", _group)]
    lead = (
        "Each latent of a larger SAE is inserted alone into a smaller one: it is novel where the error falls, a "
        "reconstruction where it rises, undecided where a 95 % interval holds 0. Then one becomes the other in steps."
    )
    if groups:
        yield Section("stitching", "Stitching", lead, groups)


def _group(path: Path) -> Group:
    comparison = json.loads(path.read_text(encoding="utf-8"))
    small, large = comparison["small"], comparison["large"]
    rows = [_row(name, latents) for name, latents in comparison["classes"].items()]
    table = Table(f"Latents of {large}, each inserted alone into {small}", _HEAD, rows)
    lead = f"On {comparison['n_samples']:,} held-out samples; shuffled: with latents of another sample."
    return Group(f"{small} to {large}", lead, curve_charts(comparison), [table])


def _row(name: str, latents: Mapping[str, Any]) -> list[str]:
    cosine = "-" if latents["best_cosine"] is None else f"{latents['best_cosine']:.3f}"
    shares = [_percent(latents[share]) for share in ("share", "firing_share")]
    change = _percent(latents["change"], 3)
    return [name, f"{latents['n']:,}", *shares, cosine, change, _percent(latents["shuffled"])]


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f} %"
