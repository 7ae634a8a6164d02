"""Figures of ``sae stitch``, as PNG; told apart by marker where colour does not help."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib import style as matplotlib_style
from matplotlib.figure import Figure
from torch import Tensor

from sae_lightning.figures.look import LOOK, WIDTH, Style
from sae_lightning.stitching.curve import INSERT, REST, START, SWAP
from sae_lightning.stitching.insertion import CLASSES, DEAD

_PHASES = {
    START: Style("#000000", "*", "none"),
    INSERT: Style("#0072B2", "o", "none"),
    SWAP: Style("#009E73", "^", "none"),
    REST: Style("#D55E00", "s", "none"),
}
_CLASSES = {
    "undecided": Style("0.6", ".", "none"),
    "novel": Style("#0072B2", "o", "none"),
    "reconstruction": Style("#D55E00", "s", "none"),
}


def draw(found: Mapping[str, Any], latents: Mapping[str, Tensor], out: Path) -> list[Path]:
    """Draw what was measured into an existing folder; returns the files."""
    paths = []
    for name, figure in (("curve", curve), ("cosine", lambda found: cosine(found, latents))):
        with matplotlib_style.context(["default", LOOK]):
            figure(found).savefig(out / f"{name}.png")
        paths.append(out / f"{name}.png")
    return paths


def curve(found: Mapping[str, Any]) -> Figure:
    """Explained variance over l0, and squared error over steps; the two SAEs at their places."""
    rows, ends = found["curve"]["steps"], {name: found["curve"][name] for name in ("small", "large")}
    figure = Figure(figsize=(WIDTH, 4))
    by_step, by_l0 = figure.subplots(1, 2)
    for axis, of_x, of_y in ((by_step, None, "mse"), (by_l0, "l0", "explained_variance")):
        xs = [row[of_x] for row in rows] if of_x else list(range(len(rows)))
        axis.plot(xs, [row[of_y] for row in rows], color="0.8", zorder=1)
        for phase, look in _PHASES.items():
            chosen = [i for i, row in enumerate(rows) if row["phase"] == phase]
            if chosen:
                points = [xs[i] for i in chosen], [rows[i][of_y] for i in chosen]
                axis.plot(*points, color=look.colour, marker=look.marker, linestyle="none", label=phase)
    by_step.axhline(ends["large"]["mse"], color="0.45", linestyle="--", linewidth=1)
    by_step.set(xlabel="step", ylabel="squared error of an activation")
    by_l0.plot(
        [of["l0"] for of in ends.values()],
        [of["explained_variance"] for of in ends.values()],
        color="0.25",
        marker="x",
        linestyle="none",
        label="the SAEs themselves",
    )
    by_l0.set(xlabel="active latents (l0)", ylabel="explained variance")
    figure.suptitle(f"From {found['small']} to {found['large']}; dashed: the squared error of {found['large']}")
    figure.legend(*by_l0.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def cosine(found: Mapping[str, Any], latents: Mapping[str, Tensor]) -> Figure:
    """What each latent does to the error against its largest cosine to the small dictionary."""
    figure = Figure(figsize=(WIDTH, 4.4))
    axis = figure.subplots()
    labels, cosines = latents["label"].cpu(), latents["best_cosine"].cpu()
    changes = 100 * latents["change"].cpu() / found["mse_small"]
    for name, look in _CLASSES.items():
        chosen = labels == CLASSES.index(name)
        axis.plot(
            cosines[chosen].numpy(),
            changes[chosen].numpy(),
            color=look.colour,
            marker=look.marker,
            linestyle="none",
            markersize=3,
            alpha=0.6,
            label=f"{name} ({int(chosen.sum()):,})",
        )
    alive = changes[labels != DEAD].abs()
    # Of latents that fire rarely the change is tiny, and of a few large: both are to be seen.
    axis.set_yscale("symlog", linthresh=max(float(alive.median()) if len(alive) else 0.0, 1e-6))
    axis.axhline(0, color="0.45", linewidth=1)
    axis.axvline(found["best_cosine_chance"], color="0.45", linestyle=":", linewidth=1, label="random directions, mean")
    axis.axvline(
        found["components"]["threshold"], color="0.45", linestyle="--", linewidth=1, label="threshold of swaps"
    )
    axis.set(xlabel="largest cosine to the small dictionary", ylabel="change of the squared error, %")
    figure.suptitle(f"Each latent of {found['large']} inserted alone into {found['small']}")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
