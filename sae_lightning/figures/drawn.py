"""What is drawn: a function for each figure, and what they share."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from sae_lightning.compare import short_names
from sae_lightning.figures.computed import by_frequency, curves, frequency_bins, points, shares
from sae_lightning.figures.look import CHANCE, CHANCE_LABEL, LEGEND_CHARACTERS, REFERENCE, WIDTH, Style
from sae_lightning.figures.runs import RECOVERY, THRESHOLD, LeftOut, Run, Truth

BIN = 0.02
"""Width of the bins of a cosine; the threshold is the edge of one."""


def recovery_by_frequency(run: Run, style: Mapping[str, Style]) -> Figure:
    """Share of features recovered, and their mean best cosine, over the firing probability."""
    truth = known(run)
    fires = truth.probabilities > 0
    probabilities = truth.probabilities[fires]
    if np.allclose(probabilities, probabilities[0], atol=0):
        raise LeftOut(f"every feature fires equally often, with p={probabilities[0]:g}")
    edges = frequency_bins(probabilities)
    middles = np.sqrt(edges[1:] * edges[:-1])
    figure = Figure(figsize=(WIDTH, 6.4))
    upper, lower = figure.subplots(2, sharex=True)

    chance = by_frequency(truth.chance[None, fires], probabilities, edges)
    upper.plot(middles, chance.share, label=CHANCE_LABEL, **CHANCE)
    lower.plot(middles, chance.cosine, **CHANCE)
    drawn = [policy for policy in style if policy in truth.best]
    for rank, policy in enumerate(drawn):
        found = by_frequency(truth.best[policy][:, fires], probabilities, edges)
        look = _line(style[policy])
        aside = (edges[1:] / edges[:-1]) ** (0.12 * (rank - (len(drawn) - 1) / 2))  # that bars do not hide each other
        bars = np.abs([found.share - found.low, found.high - found.share])
        upper.errorbar(middles * aside, found.share, bars, label=policy, elinewidth=1, capsize=2, **look)
        lower.plot(middles * aside, found.cosine, **look)

    upper.set(xscale="log", ylabel="features recovered")
    _percent_from_zero(upper)
    lower.set(xlabel="firing probability of the feature", ylabel="mean best cosine")
    firings = upper.secondary_xaxis("top", functions=(lambda p: p * run.samples, lambda n: n / run.samples))
    firings.set_xlabel(f"firings expected in training (probability × {run.samples:,} {run.unit})")
    _title(
        figure,
        f"Features recovered (best cosine above {THRESHOLD:g}), by how often they fire",
        f"{run.title}: {run.seeds}, bars: 95% interval (Wilson)",
    )
    _legend(figure, [upper])
    return figure


def best_cosines(run: Run, style: Mapping[str, Style]) -> Figure:
    """Distribution over features of the best cosine."""
    truth = known(run)
    everything = np.concatenate([truth.chance, *(best.ravel() for best in truth.best.values())])
    edges = np.arange(math.floor(everything.min() / BIN), round(1 / BIN) + 1) * BIN
    middles = edges[:-1] + BIN / 2
    figure = Figure(figsize=(WIDTH, 5))
    axis = figure.subplots()
    axis.stairs(shares(truth.chance, edges), edges, fill=True, color="0.85", label=CHANCE_LABEL)
    for policy, look in style.items():
        if policy in truth.best:
            best = truth.best[policy]
            label = f"{policy}: {(best > THRESHOLD).mean():.2%} recovered, mean {best.mean():.3f}"
            heights = shares(best, edges)
            axis.plot(middles, np.where(heights > 0, heights, np.nan), label=label, **_line(look))
    axis.axvline(THRESHOLD, color="black", linewidth=1)
    axis.annotate(" recovered", (THRESHOLD, 0.97), xycoords=("data", "axes fraction"), va="top")
    axis.set(xlabel="largest cosine of a feature to a direction of the decoder", yscale="log")
    axis.set_ylabel(f"features, in bins of {BIN:g}")
    axis.yaxis.set_major_formatter(_percent)
    _title(figure, "How near the nearest decoder direction is to each feature", f"{run.title}: {run.seeds}")
    _legend(figure, [axis], columns=2)
    return figure


def training(run: Run, style: Mapping[str, Style]) -> Figure:
    """What is learned, and how far the dictionary moves for it, over training samples."""
    panels = {
        "explained_variance": "explained variance",
        RECOVERY: f"features recovered (cosine > {THRESHOLD:g})",
        "mean_best_cosine": "mean best cosine of a feature",
        "cosine_to_start_mean": "mean cosine to start",
    }
    measured = {metric: found for metric in panels if (found := curves(run.lines, metric))}
    if not measured:
        raise LeftOut(f"none of {', '.join(panels)} was measured")
    columns = min(2, len(measured))
    rows = math.ceil(len(measured) / columns)
    figure = Figure(figsize=(WIDTH, 1.4 + 2.8 * rows))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(measured) :]:
        axis.remove()
    for axis, (metric, found) in zip(axes, measured.items(), strict=False):
        floors = [floor for line in run.lines if (floor := line["floors"].get(metric)) is not None]
        if floors:
            axis.axhline(floors[-1], label="floor: an SAE that does nothing, or chance", **CHANCE)
        for policy, look in style.items():
            if policy in run.policies and policy in found:
                curve = found[policy]
                axis.plot(curve.samples, curve.mean, label=policy, **_line(look))
                axis.fill_between(curve.samples, curve.least, curve.greatest, color=look.colour, alpha=0.2, lw=0)
        axis.set(xlabel=f"training {run.unit}", ylabel=panels[metric])
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        if metric == RECOVERY:
            _percent_from_zero(axis)
    bands = "" if run.seeds == "1 seed" else ", bands: least to greatest"
    _title(figure, "What an SAE learns, and how far its dictionary moves for it", f"{run.title}: {run.seeds}{bands}")
    _legend(figure, axes[: len(measured)])
    return figure


def explained_variance_vs_recovery(runs: Sequence[Run], style: Mapping[str, Style]) -> Figure:
    """One point per run, policy and seed: does an SAE that explains more recover more?"""
    ends = {run.folder: points(run.lines[-1]) for run in runs}
    ends = {folder: of for folder, of in ends.items() if any(point.recovery is not None for point in of)}
    if not ends:
        raise LeftOut(f"no run has measured both explained_variance and {RECOVERY}, as the callback Recovery does")
    references = sorted({point.policy for of in ends.values() for point in of if point.recovery is None}, reverse=True)
    heights = [16, 1 + len(references)] if references else [1]
    figure = Figure(figsize=(WIDTH, 5 + 0.3 * len(references)))
    axes = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for floor in {run.lines[-1]["floors"].get(RECOVERY) for run in runs if run.folder in ends} - {None}:
        axes[0].axhline(floor, label=CHANCE_LABEL, **CHANCE)
    for policy, look in style.items():
        for number, of in enumerate(ends.values(), 1):
            for point in of:
                if point.policy == policy and point.recovery is not None:
                    _mark(axes[0], point.explained_variance, point.recovery, look, policy, number, len(ends))
    for number, of in enumerate(ends.values(), 1):
        for point in of:
            if point.recovery is None:
                row = float(references.index(point.policy))
                _mark(axes[1], point.explained_variance, row, REFERENCE, None, number, len(ends))
    axes[0].set_ylabel(f"features recovered (best cosine > {THRESHOLD:g})")
    _percent_from_zero(axes[0])
    if references:
        axes[1].set(yticks=range(len(references)), yticklabels=references, ylim=(-0.7, len(references) - 0.3))
        axes[1].set_title("for comparison: methods that learn no dictionary", loc="left")
    axes[-1].set_xlabel("explained variance")
    what = f"{len(ends)} runs, numbered" if len(ends) > 1 else next(run.title for run in runs if run.folder in ends)
    _title(figure, "Does an SAE that explains more recover more?", f"{what}: a point for each policy and seed")
    _legend(figure, axes, short_names(list(ends)).values() if len(ends) > 1 else ())
    return figure


def known(run: Run) -> Truth:
    """The truth of a run that has it."""
    if run.truth is None:
        raise LeftOut(run.why_no_truth)
    return run.truth


def _line(style: Style) -> dict[str, Any]:
    return {"color": style.colour, "marker": style.marker, "linestyle": style.line, "markeredgecolor": "white"}


def _mark(axis: Axes, x: float, y: float, style: Style, label: str | None, number: int, n_runs: int) -> None:
    """A point; where there are several runs, with the number of its run inside."""
    look: dict[str, Any] = {"color": style.colour, "marker": style.marker, "linestyle": "none", "label": label}
    if n_runs == 1:
        axis.plot(x, y, markeredgecolor="white", markersize=8, **look)
        return
    axis.plot(x, y, markerfacecolor="white", markeredgewidth=1.8, markersize=12, **look)
    axis.annotate(str(number), (x, y), ha="center", va="center_baseline", fontsize=7, zorder=2)  # as the marker


def _percent(value: float, position: object) -> str:
    return f"{100 * value:g}%"


def _percent_from_zero(axis: Axes) -> None:
    top = max(axis.dataLim.y1, 0.001)  # where nothing is recovered, too
    axis.set_ylim(-0.05 * top, 1.07 * top)
    axis.yaxis.set_major_formatter(_percent)


def _title(figure: Figure, shown: str, of: str) -> None:
    figure.suptitle(f"{shown}\n{of}")


def _legend(figure: Figure, axes: Iterable[Axes], runs: Iterable[str] = (), columns: int = 3) -> None:
    """All that the axes have labels for, once, and the names of numbered runs."""
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    for number, name in enumerate(runs, 1):
        handles[name] = Line2D([], [], linestyle="none", marker=f"${number}$", color="black")
    longest = max(map(len, handles), default=0)
    columns = max(1, min(columns, LEGEND_CHARACTERS // (longest + 6)))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns)
