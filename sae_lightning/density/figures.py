"""Figures of ``sae density``, as PNG and into TensorBoard; told apart by marker and line where colour does not help."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style as matplotlib_style
from matplotlib.figure import Figure
from matplotlib.image import imread
from torch.utils.tensorboard import SummaryWriter

from sae_lightning.density.activations import (
    ALL_DIMENSIONS,
    AXES,
    GAUSSIAN,
    NEAR_ZERO,
    ROTATED,
    WITHOUT_FIRST,
    WITHOUT_MASSIVE,
)
from sae_lightning.figures.look import CHANCE, LOOK, WIDTH, Style, styles

_VIEWS = {
    (AXES, ALL_DIMENSIONS): Style("#0072B2", "o", "-"),
    (AXES, WITHOUT_MASSIVE): Style("#D55E00", "s", "--"),
    (ROTATED, ALL_DIMENSIONS): Style("#009E73", "^", "-."),
    (GAUSSIAN, ALL_DIMENSIONS): Style("0.4", "x", ":"),
}
_MOST_ENERGY_PANELS = 4


def draw(found: Mapping[str, Any], out: Path) -> list[Path]:
    """Draw what was measured.

    Args:
        found: as `measure` returns it.
        out: an existing folder.

    Returns:
        The files written.
    """
    figures: dict[str, Callable[[Mapping[str, Any]], Figure]] = {"layers": layers, "energy": energy}
    figures |= {"directions": directions}
    if any("noise" in of for of in (found["supports"] or {}).values()):
        figures["supports"] = supports
    if found["seeds"] and any("matched" in of for of in found["seeds"]["policies"].values()):
        figures["seeds"] = seeds
    paths = []
    for name, figure_of in figures.items():
        with matplotlib_style.context(["default", LOOK]):
            figure_of(found).savefig(out / f"{name}.png")
        paths.append(out / f"{name}.png")
    for old in out.glob("events.out.tfevents.*"):
        old.unlink()
    with SummaryWriter(str(out)) as writer:
        for path in paths:
            writer.add_image(path.stem, imread(path), dataformats="HWC")
    return paths


def layers(found: Mapping[str, Any]) -> Figure:
    """Each measure over the layers."""
    hooks = list(dict.fromkeys(row["hook"] for row in found["layers"]))
    panels = {
        "participation_ratio": "participation ratio",
        "hoyer": "Hoyer sparseness",
        "excess_kurtosis": "excess kurtosis of a token",
        "near_zero": f"share of coordinates below {NEAR_ZERO:g}",
    }
    figure = Figure(figsize=(WIDTH, 6.4))
    axes = figure.subplots(2, 2, sharex=True).ravel()
    for axis, (measure, label) in zip(axes, panels.items(), strict=True):
        for (view, dimensions), look in _VIEWS.items():
            values = [row[measure] for row in _rows(found, view, dimensions)]
            axis.plot(range(len(hooks)), values, label=f"{view}, {dimensions}", **_line(look))
        axis.set_ylabel(label)
    for axis in axes[2:]:
        axis.set_xticks(range(len(hooks)), hooks, rotation=30, ha="right", fontsize=8)
    figure.suptitle(f"How dense activations are, at norm sqrt(d), {WITHOUT_FIRST}\n{found['model']}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def energy(found: Mapping[str, Any]) -> Figure:
    """How much of a token's energy its largest coordinates have, for some of the layers."""
    hooks = list(dict.fromkeys(row["hook"] for row in found["layers"]))
    shown = [hooks[i] for i in sorted(set(np.linspace(0, len(hooks) - 1, _MOST_ENERGY_PANELS).round().astype(int)))]
    figure = Figure(figsize=(WIDTH, 3.8))
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axis, hook in zip(axes, shown, strict=True):
        for (view, dimensions), look in _VIEWS.items():
            row = next(row for row in _rows(found, view, dimensions) if row["hook"] == hook)
            shares = [100 * float(share) for share in row["energy"]]
            axis.plot(shares, list(row["energy"].values()), label=f"{view}, {dimensions}", **_line(look))
        axis.set(xscale="log", title=hook, ylim=(0, 1.02))
        axis.set_xlabel("largest coordinates (%)")
        axis.xaxis.set_major_formatter("{x:g}")
    axes[0].set_ylabel("share of a token's energy")
    figure.suptitle(f"Energy in the largest coordinates of a token, {WITHOUT_FIRST}\n{found['model']}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def directions(found: Mapping[str, Any]) -> Figure:
    """Density of directions, each measure in a panel and each kind of direction in a row."""
    names = list(dict.fromkeys(row["directions"] for row in found["directions"]))[::-1]
    panels = {
        "above_10_percent_of_rms": "share above 10 % of RMS",
        "hoyer": "Hoyer sparseness",
        "excess_kurtosis": "excess kurtosis",
        "top_1_percent_mass": "mass of the top 1 %",
    }
    readings = {"coordinates": Style("#D55E00", "s", "none"), "logits": Style("#0072B2", "o", "none")}
    figure = Figure(figsize=(WIDTH, 1.9 + 0.3 * len(names)))
    axes = figure.subplots(1, len(panels), sharey=True)
    for axis, (measure, label) in zip(axes, panels.items(), strict=True):
        for reading, look in readings.items():
            rows = [row for row in found["directions"] if row["reading"] == reading]
            # An axis has one coordinate, which would leave the others no room.
            rows = [row for row in rows if (reading, row["directions"]) != ("coordinates", AXES)]
            heights = [names.index(row["directions"]) for row in rows]
            if rows:
                axis.plot([row[measure] for row in rows], heights, label=reading, **_line(look))
        axis.set_xlabel(label)
        axis.margins(x=0.15, y=0.1)
    axes[0].set_yticks(range(len(names)), names)
    figure.suptitle(f"Density of directions, and of what they add to the logits\n{found['model']}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def supports(found: Mapping[str, Any]) -> Figure:
    """Which latents stay when a little noise is added."""
    measured = {member: of for member, of in found["supports"].items() if "noise" in of}
    looks = styles(member.split("/")[0] for member in measured)
    figure = Figure(figsize=(WIDTH, 4))
    axes = figure.subplots(1, 2, sharey=True)
    for axis, who in zip(axes, ("encoder", "pursuit"), strict=True):
        for member, of in measured.items():
            policy = member.split("/")[0]
            values = [noise[who] for noise in of["noise"].values()]
            axis.plot([100 * float(size) for size in of["noise"]], values, label=policy, **_line(looks[policy]))
        axis.set(xscale="log", xlabel="noise, % of the activation's norm", ylim=(0, 1.02), title=who)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("")
        sizes = [100 * float(size) for size in next(iter(measured.values()))["noise"]]
        axis.set_xticks(sizes)
    axes[0].set_ylabel("Jaccard index, before and after")
    figure.suptitle(f"Which latents stay active under noise\n{found['model']}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def seeds(found: Mapping[str, Any]) -> Figure:
    """Sorted cosines of matched directions of two seeds, beside chance."""
    measured = {policy: of for policy, of in found["seeds"]["policies"].items() if "matched" in of}
    looks = styles(measured)
    figure = Figure(figsize=(WIDTH, 4.2))
    axis = figure.subplots()
    for policy, of in measured.items():
        look = looks[policy]
        marks = max(1, len(of["matched"]) // 8)
        axis.plot(_shares(of["matched"]), of["matched"], label=policy, markevery=marks, **_line(look))
        by_chance = of["chance"]["matched"]
        axis.plot(_shares(by_chance), by_chance, color=look.colour, linestyle=look.line, linewidth=0.7)
    isotropic = found["seeds"]["isotropic"]["matched"]
    axis.plot(_shares(isotropic), isotropic, label="isotropic directions", **CHANCE)
    axis.set(xlabel="matched latents, best first (%)", ylabel="cosine of the decoder directions")
    figure.suptitle(
        f"Do two seeds find the same latents? One-to-one matching of the first two\n"
        f"{found['model']}; thin lines: random directions of equal mean and covariance"
    )
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _rows(found: Mapping[str, Any], view: str, dimensions: str) -> list[Mapping[str, Any]]:
    wanted = (view, dimensions, WITHOUT_FIRST)
    return [row for row in found["layers"] if (row["view"], row["dimensions"], row["tokens"]) == wanted]


def _shares(values: Sequence[float]) -> np.ndarray:
    """Where values stand among all, in percent."""
    return 100 * (np.arange(len(values)) + 0.5) / len(values)


def _line(style: Style) -> dict[str, Any]:
    return {"color": style.colour, "marker": style.marker, "linestyle": style.line}
