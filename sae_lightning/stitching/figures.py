"""Charts of ``sae stitch``: told apart by marker where colour does not help."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sae_lightning.figures.chart import Chart
from sae_lightning.figures.lines import Guide, Lines, Series
from sae_lightning.figures.look import INK, MUTED
from sae_lightning.figures.png import figure_of, write
from sae_lightning.figures.scatter import Scatter
from sae_lightning.members import Style
from sae_lightning.stitching.curve import INSERT, REST, START, SWAP
from sae_lightning.stitching.insertion import CLASSES, DEAD

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


def curve_charts(comparison: Mapping[str, Any]) -> list[Chart]:
    """Draw squared error over steps, and explained variance over l0, with the two SAEs at their places."""
    curve, large, n_steps = comparison["curve"], comparison["large"], len(comparison["curve"]["steps"])
    phases: dict[str, list[int]] = {}
    for step, row in enumerate(curve["steps"]):
        phases.setdefault(row["phase"], []).append(step)

    def series(x: str | None, y: str) -> list[Series]:
        """Return the points of each phase, and before them the path that joins them."""
        xs = list(range(n_steps)) if x is None else [row[x] for row in curve["steps"]]
        ys = [row[y] for row in curve["steps"]]
        path = Series(name="path", x=xs, y=ys, style=Style(MUTED, "", ":"), is_listed=False)
        return [path] + [
            Series(name=phase, x=[xs[i] for i in steps], y=[ys[i] for i in steps], style=_PHASES[phase])
            for phase, steps in phases.items()
        ]

    ends = [curve["small"], curve["large"]]
    itself = Series(
        name="the SAEs themselves",
        x=[end["l0"] for end in ends],
        y=[end["explained_variance"] for end in ends],
        style=Style(INK, "x", "none"),
    )
    return [
        Lines(
            title="Squared error, step by step",
            series=series(None, "mse"),
            x="step",
            y="squared error of an activation",
            guides=[Guide(curve["large"]["mse"], f"{large} itself")],
            note=f"{large} itself: squared error {curve['large']['mse']:.4g}.",
        ),
        Lines(
            title="Explained variance against l0",
            series=[*series("l0", "explained_variance"), itself],
            x="active latents a sample (l0)",
            y="explained variance",
        ),
    ]


def cosine_chart(comparison: Mapping[str, Any], latents: Mapping[str, Tensor]) -> Scatter:
    """Draw what each latent does to the error against its largest cosine to the small dictionary."""
    labels, cosines = latents["label"].cpu(), latents["best_cosine"].cpu()
    changes = 100 * latents["change"].cpu() / comparison["mse_small"]
    series = []
    for name, style in _CLASSES.items():
        chosen = labels == CLASSES.index(name)
        label = f"{name} ({int(chosen.sum()):,})"
        points = cosines[chosen].tolist(), changes[chosen].tolist()
        series.append(Series(name=name, x=points[0], y=points[1], label=label, style=style))
    alive = changes[labels != DEAD].abs()
    return Scatter(
        title="Single latents: error and cosine",
        series=series,
        x="largest cosine to the small dictionary",
        y="change of the squared error, %",
        # Of latents that fire rarely the change is tiny, and of a few large: both are to be seen.
        linear_below=max(float(alive.median()) if len(alive) else 0.0, 1e-6),
        guides=[
            Guide(0, style=Style(MUTED, "", "-")),
            Guide(comparison["best_cosine_chance"], "random directions, mean", "x", Style(MUTED, "", ":")),
            Guide(comparison["components"]["threshold"], "threshold of swaps", "x", Style(MUTED, "", "--")),
        ],
    )
