"""Sections on what other commands, ``sae stitch`` and ``sae density``, left in the folder of a run."""

from collections.abc import Mapping
from typing import Any

from sae_lightning.density.activations import ALL_DIMENSIONS, WITHOUT_FIRST
from sae_lightning.report.charts import Series, lines
from sae_lightning.report.figure import Table
from sae_lightning.report.run import ReportRun
from sae_lightning.report.section import Group, Section

_MEASURES = {
    "participation_ratio": "Participation ratio",
    "hoyer": "Hoyer sparseness",
    "excess_kurtosis": "Excess kurtosis of a token",
    "near_zero": "Share of coordinates near zero",
}


def stitching(run: ReportRun) -> Section | None:
    """What a larger SAE has that a smaller one lacks, for each pair that was compared."""
    groups = [_pair(str(path), found) for path, found in run.found("stitch/*/stitch.json")]
    lead = (
        "Each latent of a larger SAE is inserted alone into a smaller one: it is novel where the error falls, a "
        "reconstruction where it rises, undecided where a 95 % interval holds 0. Then one becomes the other in steps."
    )
    return Section("stitching", "Stitching", lead, groups) if groups else None


def _pair(key: str, found: Mapping[str, Any]) -> Group:
    small, large, steps = found["small"], found["large"], list(enumerate(found["curve"]["steps"]))
    phases = {of["phase"]: [(i, step) for i, step in steps if step["phase"] == of["phase"]] for _, of in steps}
    by_step = [Series(phase, [i for i, _ in of], [step["mse"] for _, step in of]) for phase, of in phases.items()]
    by_l0 = [
        Series(phase, [step["l0"] for _, step in of], [step["explained_variance"] for _, step in of])
        for phase, of in phases.items()
    ]
    itself, error = found["curve"]["large"], "squared error"
    note = f"{large} itself: squared error {itself['mse']:.4g}."
    x, y = "active latents a sample (l0)", "explained variance"
    charts = [
        lines(f"{key} steps", "Squared error, step by step", by_step, "step", error, join=False, note=note),
        lines(f"{key} l0", "Explained variance against l0", by_l0, x, y, join=False),
    ]
    rows = [
        [
            name, f"{of['n']:,}", _percent(of["share"]), _percent(of["firing_share"]),
            "-" if of["best_cosine"] is None else f"{of['best_cosine']:.3f}",
            _percent(of["change"], 3), _percent(of["shuffled"]),
        ]
        for name, of in found["classes"].items()
    ]  # fmt: skip
    head = ["class", "latents", "share", "of firings", "largest cosine", "change of the error", "share, shuffled"]
    lead = f"On {found['n_samples']:,} held-out samples; shuffled: with latents of another sample."
    caption = f"Latents of {large}, each inserted alone into {small}"
    return Group(f"{small} to {large}", lead, charts, [Table(caption, head, rows)])


def density(run: ReportRun) -> Section | None:
    """How dense activations are, layer by layer, and what that says of six claims."""
    found = next((found for _, found in run.found("density/density.json")), None)
    if found is None:
        return None
    chosen = [row for row in found["layers"] if (row["tokens"], row["dimensions"]) == (WITHOUT_FIRST, ALL_DIMENSIONS)]
    hooks = list(dict.fromkeys(row["hook"] for row in chosen))
    views = {row["view"]: [of for of in chosen if of["view"] == row["view"]] for row in chosen}
    charts = []
    for measure, title in _MEASURES.items():
        series = [
            Series(view, [hooks.index(row["hook"]) for row in of], [row[measure] for row in of])
            for view, of in views.items()
        ]
        if series:
            key, x = f"{run.folder} density {measure}", f"hook: 0 is {hooks[0]}"
            charts.append(lines(key, title, series, x, title.split(" of a")[0].lower(), name=measure))
    claims = [[of["claim"], of["verdict"], of["evidence"]] for of in found.get("verdicts") or ()]
    tables = (
        [Table("Claims of dense representations", ["claim", "verdict", "evidence"], claims, prose=True)]
        if claims
        else []
    )
    lead = f"Activations of {found['n_tokens']:,} held-out tokens at norm sqrt(d), without first tokens."
    return Section("density", "Density of the representation", lead, [Group(charts=charts, tables=tables)])


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f} %"
