"""Charts of ``sae stitch``: told apart by marker where colour does not help."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import Tensor

from sae_lightning.figures.lines import Guide, Lines, Series
from sae_lightning.figures.look import CHANCE, INK, MUTED
from sae_lightning.figures.png import figure_of, write
from sae_lightning.figures.scatter import Scatter
from sae_lightning.members import Style, policy_label, policy_styles, size_and_policy
from sae_lightning.stitching.curve import INSERT, REST, START, SWAP
from sae_lightning.stitching.insertion import CLASSES, DEAD, NOVEL
from sae_lightning.stitching.results import read_comparisons

_PHASES = {
    START: Style(INK, "*", "none"),
    INSERT: Style("#0072B2", "o", "none"),
    SWAP: Style("#009E73", "^", "none"),
    REST: Style("#D55E00", "s", "none"),
}
_CLASSES = {
    "undecided": Style(MUTED, ".", "none"),
    "novel": Style("#0072B2", "o", "none"),
    "reconstruction": Style("#D55E00", "s", "none"),
}


def draw(comparison: Mapping[str, Any], latents: Mapping[str, Tensor], out: Path) -> list[Path]:
    """Draw a comparison of two SAEs into a folder, and return the files."""
    title = f"From {comparison['small']} to {comparison['large']}"
    curve = figure_of(curve_charts(comparison), title, columns=2)
    title = f"Each latent of {comparison['large']} inserted alone into {comparison['small']}"
    cosine = figure_of([cosine_chart(comparison, latents)], title)
    return [write(curve, out / "curve.png"), write(cosine, out / "cosine.png")]


def draw_sizes(run: Path, out: Path) -> list[Path]:
    """Draw the share of novel latents over the size of the SAE, of the comparisons of a run; nothing without any.

    Args:
        run: the run folder.
        out: folder of the file.

    Returns:
        The file, if it is written.
    """
    comparisons = read_comparisons(run)
    if not comparisons:
        return []
    title = "How many latents of a larger SAE are new to a smaller one?\n"
    title += "novel: inserted alone, the latent lowers the squared error, by its 95% interval"
    return [write(figure_of([novel_chart(comparisons)], title), out / "novel_by_size.png")]


def novel_chart(comparisons: Sequence[Mapping[str, Any]]) -> Lines:
    """Draw the share of novel latents over the number of latents, a line for each size of the smaller SAE.

    Larger SAEs that are baselines have lines of their own.
    """
    shares: dict[tuple[int, str], dict[int, list[float]]] = {}
    chance: dict[int, list[float]] = {}
    for one in comparisons:
        novel = one["classes"][CLASSES[NOVEL]]
        kind = one["d_small"], size_and_policy(str(one["large"]).rpartition("/")[0])[1]
        shares.setdefault(kind, {}).setdefault(one["d_large"], []).append(novel["share"])
        chance.setdefault(one["d_large"], []).append(novel["shuffled"])
    series = []
    for (d_small, policy), by_large in sorted(shares.items()):
        whose = f"{policy_label(policy)} into" if policy else "into"
        style = policy_styles([policy])[policy] if policy else None
        name = f"{d_small:,} {policy}".rstrip()
        series.append(replace(_by_size(name, by_large, f"{whose} {d_small:,}"), style=style))
    series.append(replace(_by_size("chance", chance, "shuffled latents"), style=CHANCE))
    title, x, y = "Novel latents by size", "latents of the larger SAE", "latents that are novel"
    return Lines(title, x, y, series, log_x=True, percent=True, names_beside=True)


def _by_size(name: str, shares: Mapping[int, Sequence[float]], label: str) -> Series:
    """Join means over seeds, from the smallest SAE to the largest; a band is from the least to the greatest."""
    sizes = sorted(shares)
    own = [shares[size] for size in sizes]
    band = ([min(values) for values in own], [max(values) for values in own]) if max(map(len, own)) > 1 else ()
    return Series(name, sizes, [fmean(values) for values in own], *band, label=label)


def curve_charts(comparison: Mapping[str, Any]) -> list[Lines]:
    """Draw squared error over steps, and explained variance over l0, with the two SAEs at their places."""
    curve, large = comparison["curve"], comparison["large"]
    steps, ends = curve["steps"], [curve["small"], curve["large"]]
    itself = Series(
        "the SAEs themselves",
        [end["l0"] for end in ends],
        [end["explained_variance"] for end in ends],
        style=Style(INK, "x", "none"),
    )
    by_step = _of_phases(steps, list(range(len(steps))), "mse")
    by_l0 = _of_phases(steps, [row["l0"] for row in steps], "explained_variance")
    error = curve["large"]["mse"]
    guides, note = [Guide(error, f"{large} itself")], f"{large} itself: squared error {error:.4g}."
    title, x, y = "Explained variance against l0", "active latents a sample (l0)", "explained variance"
    error_title, error_y = "Squared error, step by step", "squared error of an activation"
    return [
        Lines(error_title, "step", error_y, by_step, guides=guides, note=note),
        Lines(title, x, y, [*by_l0, itself]),
    ]


def _of_phases(steps: Sequence[Mapping[str, Any]], x: Sequence[float | int], y: str) -> list[Series]:
    """Return the points of each phase, and before them the path that joins them."""
    series = [Series("path", x, [row[y] for row in steps], style=Style(MUTED, "", ":"), is_listed=False)]
    for phase in dict.fromkeys(row["phase"] for row in steps):
        rows = [(place, row[y]) for place, row in zip(x, steps, strict=True) if row["phase"] == phase]
        series.append(Series(phase, [place for place, _ in rows], [value for _, value in rows], style=_PHASES[phase]))
    return series


def cosine_chart(comparison: Mapping[str, Any], latents: Mapping[str, Tensor]) -> Scatter:
    """Draw what each latent does to the error against its largest cosine to the small dictionary."""
    labels, cosines = latents["label"].cpu(), latents["best_cosine"].cpu()
    changes = 100 * latents["change"].cpu() / comparison["mse_small"]
    series = []
    for name, style in _CLASSES.items():
        chosen = labels == CLASSES.index(name)
        label = f"{name} ({int(chosen.sum()):,})"
        series.append(Series(name, cosines[chosen].tolist(), changes[chosen].tolist(), label=label, style=style))
    alive = changes[labels != DEAD].abs()
    guides = [
        Guide(0, style=Style(MUTED, "", "-")),
        Guide(comparison["best_cosine_chance"], "random directions, mean", "x", Style(MUTED, "", ":")),
        Guide(comparison["components"]["threshold"], "threshold of swaps", "x", Style(MUTED, "", "--")),
    ]
    # Of latents that fire rarely the change is tiny, and of a few large: both are to be seen.
    linear_below = max(float(alive.median()) if len(alive) else 0.0, 1e-6)
    title, y = "Single latents: error and cosine", "change of the squared error, %"
    x = "largest cosine to the small dictionary"
    return Scatter(title, x, y, series, guides=guides, linear_below=linear_below)
