"""Charts of ``sae density``: told apart by marker and line where colour does not help."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sae_lightning.density.activations import (
    ALL_DIMENSIONS,
    AXES,
    GAUSSIAN,
    NEAR_ZERO,
    ROTATED,
    WITHOUT_FIRST,
    WITHOUT_MASSIVE,
)
from sae_lightning.figures.chart import Chart
from sae_lightning.figures.lines import Lines, Series
from sae_lightning.figures.look import CHANCE, MUTED
from sae_lightning.figures.png import figure_of, show_in_tensorboard, write
from sae_lightning.figures.scatter import Scatter
from sae_lightning.members import Style, in_order, policy_styles, policy_title

_VIEWS = {
    (AXES, ALL_DIMENSIONS): Style("#0072B2", "o", "-"),
    (AXES, WITHOUT_MASSIVE): Style("#D55E00", "s", "--"),
    (ROTATED, ALL_DIMENSIONS): Style("#009E73", "^", "-."),
    (GAUSSIAN, ALL_DIMENSIONS): Style(MUTED, "x", ":"),
}
_READINGS = {"coordinates": Style("#D55E00", "s", "none"), "logits": Style("#0072B2", "o", "none")}
_OF_LAYERS = {
    "participation_ratio": "Participation ratio",
    "hoyer": "Hoyer sparseness",
    "excess_kurtosis": "Excess kurtosis of a token",
    "near_zero": f"Share of coordinates below {NEAR_ZERO:g}",
}
_OF_DIRECTIONS = {
    "above_10_percent_of_rms": "Above 10 % of RMS",
    "hoyer": "Hoyer sparseness",
    "excess_kurtosis": "Excess kurtosis",
    "top_1_percent_mass": "Mass of the top 1 %",
}
_MOST_ENERGY_CHARTS = 4


def draw(results: Mapping[str, Any], out: Path) -> list[Path]:
    """Draw what was measured, as PNG and into TensorBoard.

    Args:
        results: as `measure` returns them.
        out: folder of the files.

    Returns:
        The files written.
    """
    model = results["model"]
    title = f"How dense activations are, at norm sqrt(d), {WITHOUT_FIRST}\n{model}"
    figures = {"layers": figure_of(layer_charts(results), title, columns=2)}
    title = f"Energy in the largest coordinates of a token, {WITHOUT_FIRST}\n{model}"
    figures["energy"] = figure_of(energy_charts(results), title, columns=4, share_y=True)
    title = f"Density of directions, and of what they add to the logits\n{model}"
    figures["directions"] = figure_of(direction_charts(results), title, columns=4, share_y=True)
    if charts := support_charts(results):
        title = f"Which latents stay active under noise\n{model}"
        figures["supports"] = figure_of(charts, title, columns=2, share_y=True)
    if charts := seed_charts(results):
        title = "Do two seeds find the same latents? One-to-one matching of the first two"
        thin = "lines without marks: random directions of equal mean and covariance"
        figures["seeds"] = figure_of(charts, f"{title}\n{model}; {thin}")
    paths = {name: write(figure, out / f"{name}.png") for name, figure in figures.items()}
    show_in_tensorboard(out, paths)
    return list(paths.values())


def layer_charts(results: Mapping[str, Any]) -> list[Chart]:
    """Draw each measure over the layers."""
    hooks = _hooks(results)
    shared = os.path.commonprefix(hooks).rpartition(".")[0] if len(hooks) > 1 else ""
    x, x_names = f"hook: {shared}.*" if shared else "hook", [hook.removeprefix(f"{shared}.") for hook in hooks]
    charts: list[Chart] = []
    for measure, title in _OF_LAYERS.items():
        values = {view: [row[measure] for row in rows] for view, rows in _views(results).items()}
        series = [Series(", ".join(view), range(len(y)), y, style=_VIEWS[view]) for view, y in values.items()]
        charts.append(Lines(title, x, title, series, name=measure, x_names=x_names))
    return charts


def energy_charts(results: Mapping[str, Any]) -> list[Chart]:
    """Draw how much of a token's energy its largest coordinates have, for some of the layers."""
    hooks = _hooks(results)
    shown = np.linspace(0, len(hooks) - 1, min(len(hooks), _MOST_ENERGY_CHARTS)).round().astype(int)
    x, y, charts = "largest coordinates (%)", "share of a token's energy", list[Chart]()
    for hook in (hooks[i] for i in shown):
        rows = {view: row["energy"] for view, rows in _views(results).items() for row in rows if row["hook"] == hook}
        series = [
            Series(", ".join(view), _in_percent(energy), list(energy.values()), style=_VIEWS[view])
            for view, energy in rows.items()
        ]
        charts.append(Lines(hook, x, y, series, log_x=True, percent=True))
    return charts


def direction_charts(results: Mapping[str, Any]) -> list[Chart]:
    """Draw the density of directions, each kind of direction in a row, and of what they add to the logits."""
    names = list(dict.fromkeys(row["directions"] for row in results["directions"]))[::-1]
    # An axis has one coordinate, which would leave the others no room.
    shown = [row for row in results["directions"] if (row["reading"], row["directions"]) != ("coordinates", AXES)]
    charts: list[Chart] = []
    for measure, title in _OF_DIRECTIONS.items():
        series = []
        for reading, style in _READINGS.items():
            rows = [row for row in shown if row["reading"] == reading]
            heights = [names.index(row["directions"]) for row in rows]
            series += [Series(reading, [row[measure] for row in rows], heights, style=style)] if rows else []
        charts.append(Scatter(title, "", "", series, name=measure, y_names=[policy_title(name) for name in names]))
    return charts


def support_charts(results: Mapping[str, Any]) -> list[Chart]:
    """Draw which latents stay when a little noise is added; none where that was not measured."""
    members = {member.split("/")[0]: own for member, own in (results["supports"] or {}).items()}
    noise = {policy: members[policy]["noise"] for policy in in_order(members) if "noise" in members[policy]}
    x, y, charts = "noise, % of the activation's norm", "Jaccard index, before and after", list[Chart]()
    for who in ("encoder", "pursuit") if noise else ():
        series = [Series(name, _in_percent(own), [one[who] for one in own.values()]) for name, own in noise.items()]
        charts.append(Lines(who, x, y, series, log_x=True, percent=True))
    return charts


def seed_charts(results: Mapping[str, Any]) -> list[Chart]:
    """Draw sorted cosines of matched directions of two seeds, beside chance; none where there is one seed."""
    policies = (results["seeds"] or {}).get("policies", {})
    matched = {policy: own for policy, own in policies.items() if "matched" in own}
    series = []
    for policy, style in policy_styles(matched).items():
        unmarked = Style(style.colour, "", style.line)
        series.append(_ranked(policy, matched[policy]["matched"]))
        series.append(_ranked(policy, matched[policy]["chance"]["matched"], style=unmarked, is_listed=False))
    if not series:
        return []
    series.append(_ranked("isotropic directions", results["seeds"]["isotropic"]["matched"], style=CHANCE))
    x, y = "matched latents, best first (%)", "cosine of the decoder directions"
    return [Lines("Matched latents of two seeds", x, y, series)]


def _hooks(results: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["hook"] for row in results["layers"]))


def _views(results: Mapping[str, Any]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """Return the rows of each view of the activations that is drawn, a row for each hook."""
    rows = [row for row in results["layers"] if row["tokens"] == WITHOUT_FIRST]
    views = {view: [row for row in rows if (row["view"], row["dimensions"]) == view] for view in _VIEWS}
    return {view: own for view, own in views.items() if own}


def _in_percent(sizes: Iterable[str]) -> list[float]:
    return [100 * float(size) for size in sizes]


def _ranked(name: str, cosines: Sequence[float], **settings: Any) -> Series:
    """Return a series of values over where they stand among all, in percent."""
    percent = 100 * (np.arange(len(cosines)) + 0.5) / len(cosines)
    return Series(name, percent.tolist(), cosines, **settings)
