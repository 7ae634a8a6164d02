"""Which true features were found: only where they are known, as those of synthetic data are."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sae_lightning.figures.chart import Chart, FigureSkipped, least_ends
from sae_lightning.figures.histogram import Histogram, share_series, shares
from sae_lightning.figures.lines import Guide, Lines, Series
from sae_lightning.figures.look import CHANCE, INK, REFERENCE
from sae_lightning.figures.scatter import Scatter
from sae_lightning.figures.truth import THRESHOLD, Truth, by_frequency, frequency_bins
from sae_lightning.members import Style, Tag, in_order, policy_order, policy_title
from sae_lightning.runs import Run

RECOVERY = f"recovery_at_{THRESHOLD:g}"
_RANDOM = "random dictionary"
_BIN = 0.02
"""Width of the bins of a cosine; the threshold is the edge of one."""


def by_frequency_charts(truth: Truth, samples: int) -> list[Lines]:
    """Draw the share of features recovered and their mean best cosine over their firing probability.

    Args:
        truth: features that fire in different frequency.
        samples: activations seen in training.

    Raises:
        FigureSkipped: if all features fire equally often.
    """
    fires = truth.probabilities > 0
    probabilities = truth.probabilities[fires]
    if np.allclose(probabilities, probabilities[0], atol=0):
        raise FigureSkipped(f"every feature fires equally often, with p={probabilities[0]:g}")
    edges = frequency_bins(probabilities)
    middles = np.sqrt(edges[1:] * edges[:-1]).tolist()
    recovered, nearest = [], []
    for policy in in_order(truth.best):
        bins = by_frequency(truth.best[policy][:, fires], probabilities, edges)
        recovered.append(Series(policy, middles, bins.share.tolist(), bins.low.tolist(), bins.high.tolist()))
        nearest.append(Series(policy, middles, bins.cosine.tolist()))
    chance = by_frequency(truth.chance[None, fires], probabilities, edges)
    recovered.append(Series(_RANDOM, middles, chance.share.tolist(), style=CHANCE))
    nearest.append(Series(_RANDOM, middles, chance.cosine.tolist(), style=CHANCE))
    x, share = "firing probability of the feature", f"share with a cosine above {THRESHOLD:g}"
    firings = (f"firings expected in {samples:,} samples of training", samples)
    first = Lines("Features recovered", x, share, recovered, log_x=True, percent=True, has_bars=True, x_on_top=firings)
    ends = least_ends((cosine for own in nearest for cosine in own.y), chance.cosine.min())
    return [first, Lines("Nearest decoder direction", x, "mean best cosine", nearest, log_x=True, y_includes=ends)]


def best_cosines_chart(truth: Truth) -> Histogram:
    """Draw the distribution over features of the cosine to the nearest decoder direction."""
    least = min(truth.chance.min(), *(best.min() for best in truth.best.values()))
    edges = np.arange(math.floor(least / _BIN), round(1 / _BIN) + 1) * _BIN
    series = []
    for own in share_series(truth.best, edges):
        best = truth.best[own.name]
        summary = f"{own.text}: {(best > THRESHOLD).mean():.2%} recovered, mean {best.mean():.3f}"
        series.append(replace(own, label=summary))
    return Histogram(
        "How near the nearest decoder direction is to each feature",
        "largest cosine of a feature to a direction of the decoder",
        f"features, in bins of {_BIN:g}",
        series,
        edges,
        behind=shares(truth.chance, edges),
        behind_label=_RANDOM,
        guides=[Guide(THRESHOLD, f"recovered: above {THRESHOLD:g}", "x", Style(INK, "", "-"))],
        log_y=True,
        percent=True,
    )


def explained_variance_vs_recovery_charts(runs: Sequence[Run]) -> list[Chart]:
    """Draw a point for each policy and seed of runs that measured both, numbered by run where there are several.

    Methods that learn no dictionary stand in a chart of their own.
    """
    ends: dict[tuple[str, int], list[tuple[float, float]]] = {}
    others: dict[int, list[tuple[str, float]]] = {}
    for number, run in enumerate(runs, 1):
        recovery = run.last.values[Tag(RECOVERY)]
        for member, explained in run.last.values.get(Tag("explained_variance"), {}).items():
            if explained is not None and (recovered := recovery.get(member)) is not None:
                ends.setdefault((member.policy, number), []).append((explained, recovered))
            elif explained is not None and member not in recovery:
                others.setdefault(number, []).append((member.policy, explained))
    keys = sorted(ends, key=lambda key: (policy_order(key[0]), key[1]))
    series = [Series(key[0], [x for x, _ in ends[key]], [y for _, y in ends[key]]) for key in keys]
    floors = dict.fromkeys(run.last.floors.get(Tag(RECOVERY)) for run in runs)
    guides = [Guide(floor, _RANDOM) for floor in floors if floor is not None]
    numbers = [number for _, number in keys] if len(runs) > 1 else []
    x, y = "explained variance", f"recovered (best cosine > {THRESHOLD:g})"
    title = "Features recovered against explained variance"
    charts: list[Chart] = [Scatter(title, x, y, series, guides=guides, percent=True, numbers=numbers)]
    if names := in_order(name for points in others.values() for name, _ in points)[::-1]:
        rows = [([x for _, x in points], [names.index(name) for name, _ in points]) for points in others.values()]
        series = [Series("", *own, style=REFERENCE, is_listed=False) for own in rows]
        title, labels = "For comparison: methods that learn no dictionary", [policy_title(name) for name in names]
        numbers = list(others) if len(runs) > 1 else []
        charts.append(Scatter(title, x, "", series, y_names=labels, numbers=numbers))
    return charts
