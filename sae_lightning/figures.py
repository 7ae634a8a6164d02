"""``sae figures``: what the sanity check found, drawn from the folders of finished runs.

- recovery_by_frequency: which features are recovered, and how often do those fire?
- best_cosines: how near is the nearest decoder direction to each feature?
- training: explained variance, recovery and the cosine to the start, over the samples of the training.
- explained_variance_vs_recovery: does an SAE that explains more recover more? All runs in one figure.

Each is written as PNG and into TensorBoard. The first two need data with known features, and the last their recovery.
"""

import math
import pkgutil
import sys
from argparse import ArgumentError, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import NormalDist, fmean
from typing import Any

import numpy as np
import torch
import yaml
from jaxtyping import Float
from lightning.pytorch.cli import LightningArgumentParser
from matplotlib import style as matplotlib_style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter
from torch.utils.tensorboard import SummaryWriter

from sae_lightning.compare import read_lines, short_names
from sae_lightning.datamodules import ActivationDataModule, CachedActivations
from sae_lightning.datamodules.model_activations import ModelActivations
from sae_lightning.evaluators.recovery import random_dictionary
from sae_lightning.metrics import best_cosine
from sae_lightning.mistakes import readable
from sae_lightning.saes import SparseAutoencoder

THRESHOLD = 0.8
"""Cosine above which a feature counts as recovered."""
RECOVERY = f"recovery_at_{THRESHOLD:g}"
LEAST_FEATURES = 5
"""Fewer features than this say nothing of their bin."""
BIN = 0.02
"""Width of the bins of a cosine; the threshold is the edge of one."""
FOLDER = "figures"


# How it looks
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Style:
    """How a policy is drawn in every figure: told apart by colour, and without it by marker and line.

    Args:
        colour: of lines and markers.
        marker: at each value.
        line: between them.
    """

    colour: str
    marker: str
    line: Any


# The palette of Okabe and Ito (2008), which colour-blind readers can tell apart.
STYLES = {
    "trained": Style("#0072B2", "o", "-"),
    "soft_frozen_decoder": Style("#009E73", "^", "-."),
    "frozen_decoder": Style("#D55E00", "s", "--"),
    "frozen_encoder": Style("#CC79A7", "D", ":"),
    "untrained": Style("#E69F00", "v", (0, (5, 1, 1, 1, 1, 1))),
    "oracle": Style("#000000", "p", (0, (1, 1))),
}
OTHERS = [
    Style(colour, marker, line)
    for marker, line in (("P", "-"), ("X", "--"), ("h", ":"))
    for colour in ("#56B4E9", "#F0E442")
]
REFERENCE = Style("0.25", "o", "none")
CHANCE: dict[str, Any] = {"color": "0.45", "linestyle": (0, (6, 3)), "linewidth": 1.2}
CHANCE_LABEL = "chance: random dictionary"

WIDTH = 8.0
LEGEND_CHARACTERS = 90
"""What fits side by side in that width, marks included."""
LOOK = {
    "figure.dpi": 150,  # 1200 pixels wide
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "figure.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "axes.axisbelow": True,
    "lines.markersize": 6,
    "lines.markeredgewidth": 0.6,  # white, where marks overlap
    "lines.linewidth": 1.5,
    "legend.frameon": False,
}


def styles(policies: Iterable[str]) -> dict[str, Style]:
    """A style for each policy, in the order in which they are drawn: those of the paper first."""
    names = set(policies)
    known = {name: style for name, style in STYLES.items() if name in names}
    return known | dict(zip(sorted(names - set(STYLES)), cycle(OTHERS), strict=False))


# What a run holds
# ----------------------------------------------------------------------------------------------------------------------


class LeftOut(Exception):
    """Why a figure is not drawn."""


@dataclass(frozen=True)
class Truth:
    """The known features of a run's data beside the dictionaries that it learned.

    Args:
        probabilities: how often each fires.
        best: by policy, the largest cosine of each feature to a decoder direction.
        chance: the same for a random dictionary of equal size.
    """

    probabilities: Float[np.ndarray, " n_features"]
    best: dict[str, Float[np.ndarray, "n_seeds n_features"]]
    chance: Float[np.ndarray, " n_features"]


@dataclass(frozen=True)
class Run:
    """What is drawn of a run.

    Args:
        folder: the run folder.
        lines: those of ``metrics.jsonl``.
        exported: policies that left SAEs; none as long as the run has not finished.
        unit: what one activation is, "samples" or "tokens".
        truth: None where it is not known.
        why_no_truth: told to the user.
        part: of the activations, where SAEs were trained at several hooks or on nulls; a run has one `Run` for each.
    """

    folder: Path
    lines: list[dict[str, Any]]
    exported: set[str]
    unit: str = "samples"
    truth: Truth | None = None
    why_no_truth: str = ""
    part: str = ""

    @property
    def title(self) -> str:
        """Experiment and version."""
        return "/".join(self.folder.resolve().parts[-2:]) + (f", {self.part}" if self.part else "")

    @property
    def figures(self) -> Path:
        """Where its figures lie."""
        return self.folder / FOLDER / self.part

    @property
    def policies(self) -> set[str]:
        """What is an SAE of this run, and not a reference beside them; a run that has not finished does not tell."""
        measured = self.lines[-1]["metrics"]
        return self.exported | set(measured.get(RECOVERY, {})) or {policy for of in measured.values() for policy in of}

    @property
    def seeds(self) -> str:
        """How many there are, for a title."""
        n = max((len(seeds) for of in self.lines[-1]["metrics"].values() for seeds in of.values()), default=1)
        return "1 seed" if n == 1 else f"mean over {n} seeds"

    @property
    def samples(self) -> int:
        """Activations seen in training."""
        return self.lines[-1]["samples"]


def read(folder: Path) -> list[Run]:
    """Read a run folder, part by part.

    Raises:
        ValueError: if it is none.
    """
    lines = read_lines(folder)
    parts = {metric.partition("@")[2] for metric in lines[-1]["metrics"]}
    if parts and "" not in parts:
        why = "its data are a language model's, whose true features are not known"
        return [
            Run(folder, [_of_part(line, part) for line in lines], set(), "tokens", None, why, part)
            for part in sorted(parts)
        ]
    exported = {path.parent.parent.name for path in folder.glob("saes/*/*/sae.safetensors")}
    unit = "samples"
    real = [_of_part(line, "") for line in lines]
    try:
        kind, datamodule = data_of(folder / "config.yaml")
        unit = kind.unit
        runs = [Run(folder, real, exported, unit, read_truth(folder, kind, datamodule))]
    except LeftOut as left_out:
        runs = [Run(folder, real, exported, unit, None, str(left_out))]
    why = "null data have no true features"
    return runs + [
        Run(folder, [_of_part(line, part) for line in lines], set(), unit, None, why, part)
        for part in sorted(parts - {""})
    ]


def _of_part(line: dict[str, Any], part: str) -> dict[str, Any]:
    kept = ("metrics", "floors")
    return line | {
        kind: {name.partition("@")[0]: of for name, of in line[kind].items() if name.partition("@")[2] == part}
        for kind in kept
    }


def data_of(config: Path) -> tuple[type[ActivationDataModule], Callable[[], ActivationDataModule]]:
    """Read the section ``data`` of a configuration.

    Returns:
        Its class, and what makes the datamodule. The model is not made.
    """
    if not config.is_file():
        raise LeftOut(f"there is no {config}")
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(ActivationDataModule, "data", subclass_mode=True)
    try:
        settings = parser.parse_object({"data": (yaml.safe_load(config.read_text()) or {}).get("data")})
    except ArgumentError as error:
        raise LeftOut(f"{config} does not say which data: {readable(str(error))}") from error
    kind: type[ActivationDataModule] = pkgutil.resolve_name(settings.data.class_path)
    return kind, lambda: parser.instantiate_classes(settings).data


def read_truth(
    folder: Path, kind: type[ActivationDataModule], make_datamodule: Callable[[], ActivationDataModule]
) -> Truth:
    """Compare the exported dictionaries with the features of the data.

    Raises:
        LeftOut: if either is missing.
    """
    # A language model has none, which need not be loaded to find that out.
    source: Any = (
        None if issubclass(kind, (ModelActivations, CachedActivations)) else getattr(make_datamodule(), "source", None)
    )
    if getattr(source, "features", None) is None:
        raise LeftOut(f"the true features of {kind.__name__} are not known")
    best: dict[str, list[np.ndarray]] = {}
    size = 0
    for path in sorted(folder.glob("saes/*/*/sae.safetensors")):
        W_dec = SparseAutoencoder.load(path.parent).W_dec.detach()  # noqa: N806
        best.setdefault(path.parent.parent.name, []).append(_numpy(best_cosine(source.features, W_dec)))
        size = size or len(W_dec)
    if not best:
        raise LeftOut(f"there is no {folder / 'saes'}: the run has not finished")
    chance = best_cosine(source.features, random_dictionary(size, source.features.shape[1]))
    policies = {policy: np.stack(seeds) for policy, seeds in best.items()}
    return Truth(_numpy(source.firing_probabilities), policies, _numpy(chance))


def _numpy(values: torch.Tensor) -> np.ndarray:
    return values.double().numpy()


# What is computed
# ----------------------------------------------------------------------------------------------------------------------


def frequency_bins(
    probabilities: Float[np.ndarray, " n_features"], n_bins: int = 12, least: int = LEAST_FEATURES
) -> Float[np.ndarray, " n_edges"]:
    """Edges of logarithmic bins of the firing probability with `least` features or more each; neighbours are merged.

    >>> frequency_bins(np.array([0.001, 0.001, 0.02, 0.02, 0.2, 1.0]), n_bins=3, least=2)
    array([0.001, 0.01 , 0.1  , 1.   ])
    >>> frequency_bins(np.array([0.001, 0.001, 0.02, 0.2, 0.2, 1.0]), n_bins=3, least=2)
    array([0.001, 0.01 , 1.   ])
    """
    edges = np.geomspace(probabilities.min(), probabilities.max(), n_bins + 1)
    kept, waiting = [edges[0]], 0
    for right, count in zip(edges[1:], np.histogram(probabilities, edges)[0], strict=True):
        waiting += count
        if waiting >= least:
            kept.append(right)
            waiting = 0
    return np.array([*kept[: max(len(kept) - 1, 1)], edges[-1]])  # what is left over joins the last bin


def wilson(
    share: Float[np.ndarray, " n_shares"], n: Float[np.ndarray, " n_shares"], level: float = 0.95
) -> tuple[Float[np.ndarray, " n_shares"], Float[np.ndarray, " n_shares"]]:
    """Wilson's score interval of each share of n, its lower and upper end.

    >>> [end.round(4) for end in wilson(np.array([0.1]), np.array([10.0]))]
    [array([0.0179]), array([0.4042])]
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


@dataclass(frozen=True)
class ByFrequency:
    """Recovery in bins of the firing probability.

    Args:
        share: features with a best cosine above the threshold.
        low: lower end of its 95 % interval.
        high: upper end.
        cosine: mean best cosine.
    """

    share: Float[np.ndarray, " n_bins"]
    low: Float[np.ndarray, " n_bins"]
    high: Float[np.ndarray, " n_bins"]
    cosine: Float[np.ndarray, " n_bins"]


def by_frequency(
    best: Float[np.ndarray, "n_seeds n_features"],
    probabilities: Float[np.ndarray, " n_features"],
    edges: Float[np.ndarray, " n_edges"],
) -> ByFrequency:
    """Sort features into bins.

    Share and cosine are means over seeds. The interval is that of the number of features, however many seeds there
    are: they look for the same features, and more of them tell nothing of other features.

    Args:
        best: the best cosine of each feature.
        probabilities: how often each fires.
        edges: those of the bins, none of which is empty.
    """
    n = np.histogram(probabilities, edges)[0].astype(float)

    def mean_in_bins(values: np.ndarray) -> np.ndarray:
        return np.histogram(probabilities, edges, weights=values.mean(0))[0] / n

    share = mean_in_bins((best > THRESHOLD).astype(float))
    return ByFrequency(share, *wilson(share, n), mean_in_bins(best))


def shares(values: Float[np.ndarray, "..."], edges: Float[np.ndarray, " n_edges"]) -> Float[np.ndarray, " n_bins"]:
    """Share of all values in each bin; those beyond the edges count in the first or last, as a rounded cosine may be.

    >>> shares(np.array([0.2, 0.3, 0.7, 1.0000001]), np.array([0.0, 0.5, 1.0]))
    array([0.5, 0.5])
    """
    return np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / values.size


@dataclass(frozen=True)
class Curve:
    """A metric over training, an entry per validation.

    Args:
        samples: activations seen.
        mean: over seeds.
        least: of the seeds.
        greatest: of the seeds.
    """

    samples: list[int]
    mean: list[float]
    least: list[float]
    greatest: list[float]


def curves(lines: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Curve]:
    """Collect a metric by policy; a validation that did not measure it, or found no number, is passed over."""
    found: dict[str, Curve] = {}
    for line in lines:
        for policy, seeds in line["metrics"].get(metric, {}).items():
            values = [value for value in seeds.values() if value is not None]
            if values:
                curve = found.setdefault(policy, Curve([], [], [], []))
                curve.samples.append(line["samples"])
                curve.mean.append(fmean(values))
                curve.least.append(min(values))
                curve.greatest.append(max(values))
    return found


@dataclass(frozen=True)
class Point:
    """How a member ended.

    Args:
        policy: or the name of a reference.
        explained_variance: at most 1.
        recovery: share of the features; None for a reference, which learns no dictionary.
    """

    policy: str
    explained_variance: float
    recovery: float | None


def points(line: Mapping[str, Any]) -> list[Point]:
    """One point per policy and seed of a line whose explained variance is a number."""
    recovery = line["metrics"].get(RECOVERY, {})
    return [
        Point(policy, value, recovery.get(policy, {}).get(seed))
        for policy, seeds in line["metrics"].get("explained_variance", {}).items()
        for seed, value in seeds.items()
        if value is not None
    ]


# What is drawn
# ----------------------------------------------------------------------------------------------------------------------


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


# Where it goes
# ----------------------------------------------------------------------------------------------------------------------


def main(args: list[str]) -> None:
    """Draw, and print the paths that were written."""
    parser = ArgumentParser(prog="sae figures", description=__doc__, exit_on_error=False)
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, lightning_logs/<name>/version_N")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="for the figure of all runs; default: figures/ of the first run"
    )
    options = parser.parse_args(args[1:])
    out = options.out or options.runs[0] / FOLDER
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; give a folder, which is made if needed")
    folders = {folder.resolve(): folder for folder in options.runs}.values()
    runs = [run for folder in folders for run in read(folder)]
    written, left_out = draw(runs, out)
    if not written:
        raise ValueError("nothing to draw: " + "; ".join(left_out))
    for line in left_out:
        print(f"left out {line}", file=sys.stderr)
    print(*written, sep="\n")


def draw(runs: Sequence[Run], out: Path) -> tuple[list[Path], list[str]]:
    """Draw what the runs have what it needs for.

    Args:
        runs: one or more.
        out: folder of the figure of all runs; those of one run lie in its folder.

    Returns:
        The files written, and a line on each figure that was not drawn.
    """
    style = styles(policy for run in runs for policy in run.policies)
    jobs: list[tuple[Callable[..., Figure], Any, Path, Sequence[Run]]] = [
        (figure_of, run, run.figures, [run])
        for run in runs
        for figure_of in (recovery_by_frequency, best_cosines, training)
    ]
    jobs.append((explained_variance_vs_recovery, runs, out, runs))
    images: dict[Path, dict[str, Path]] = {run.figures: {} for run in runs}
    left_out = []
    for figure_of, shown, folder, of in jobs:
        name = figure_of.__name__
        try:
            with matplotlib_style.context(["default", LOOK]):
                figure = figure_of(shown, style)
                folder.mkdir(parents=True, exist_ok=True)
                figure.savefig(folder / f"{name}.png")
        except LeftOut as why:
            left_out.append(f"{name} of {', '.join(f'{run.folder} {run.part}'.rstrip() for run in of)}: {why}")
        else:
            for run in of:
                images[run.figures][name] = folder / f"{name}.png"
    for run in runs:
        into_tensorboard(run, images[run.figures])
    return list(dict.fromkeys(path for of in images.values() for path in of.values())), left_out


def into_tensorboard(run: Run, images: Mapping[str, Path]) -> None:
    """Show images beside the curves of a run, in place of those that were drawn before."""
    folder = run.figures
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    if images:
        with SummaryWriter(str(folder)) as writer:
            for name, path in images.items():
                writer.add_image(name, imread(path), run.lines[-1]["step"], dataformats="HWC")
