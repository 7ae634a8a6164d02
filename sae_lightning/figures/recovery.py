"""Which true features were found: only where they are known, as those of synthetic data are."""

import math
from collections.abc import Sequence

import numpy as np

from sae_lightning.figures.chart import Chart, FigureSkipped
from sae_lightning.figures.histogram import Histogram, series_of_shares, shares
from sae_lightning.figures.lines import Guide, Lines, Series
from sae_lightning.figures.look import CHANCE, INK, REFERENCE
from sae_lightning.figures.scatter import Scatter
from sae_lightning.figures.truth import THRESHOLD, Truth, by_frequency, frequency_bins
from sae_lightning.members import Style, Tag, in_order, policy_label
from sae_lightning.runs import Run

RECOVERY = f"recovery_at_{THRESHOLD:g}"
_CHANCE_LABEL = "chance: random dictionary"
_BIN = 0.02
"""Width of the bins of a cosine; the threshold is the edge of one."""


def by_frequency_charts(truth: Truth, samples: int) -> list[Chart]:
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
    bins = {policy: by_frequency(truth.best[policy][:, fires], probabilities, edges) for policy in in_order(truth.best)}
    chance = by_frequency(truth.chance[None, fires], probabilities, edges)
    recovered = [
        Series(name=policy, x=middles, y=own.share.tolist(), low=own.low.tolist(), high=own.high.tolist())
        for policy, own in bins.items()
    ]
    nearest = [Series(name=policy, x=middles, y=own.cosine.tolist()) for policy, own in bins.items()]
    x = "firing probability of the feature"
    return [
        Lines(
            title="Features recovered",
            series=[*recovered, Series(name=_CHANCE_LABEL, x=middles, y=chance.share.tolist(), style=CHANCE)],
            x=x,
            y=f"share with a cosine above {THRESHOLD:g}",
            x_on_top=(f"firings expected in {samples:,} samples of training", samples),
            has_bars=True,
            log_x=True,
            percent=True,
        ),
        Lines(
            title="Nearest decoder direction",
            series=[*nearest, Series(name=_CHANCE_LABEL, x=middles, y=chance.cosine.tolist(), style=CHANCE)],
            x=x,
            y="mean best cosine",
            log_x=True,
        ),
    ]


def best_cosines_chart(truth: Truth) -> Histogram:
    """Draw the distribution over features of the cosine to the nearest decoder direction."""
    least = min(truth.chance.min(), *(best.min() for best in truth.best.values()))
    edges = np.arange(math.floor(least / _BIN), round(1 / _BIN) + 1) * _BIN
    labels = {
        policy: f"{policy_label(policy)}: {(best > THRESHOLD).mean():.2%} recovered, mean {best.mean():.3f}"
        for policy, best in truth.best.items()
    }
    return Histogram(
        title="How near the nearest decoder direction is to each feature",
        series=series_of_shares(truth.best, edges, labels),
        x="largest cosine of a feature to a direction of the decoder",
        y=f"features, in bins of {_BIN:g}",
        edges=edges,
        behind=shares(truth.chance, edges),
        behind_label=_CHANCE_LABEL,
        guides=[Guide(THRESHOLD, f"recovered: above {THRESHOLD:g}", "x", Style(INK, "", "-"))],
        log_y=True,
        percent=True,
    )


def explained_variance_vs_recovery_charts(runs: Sequence[Run]) -> list[Chart]:
    """Draw a point for each policy and seed of the runs, and in a chart of their own methods that learn no dictionary.

    Points are numbered by run where there are several.

    Raises:
        FigureSkipped: if no run has measured both.
    """
    points = [_points(run) for run in runs]
    if not any(points):
        raise FigureSkipped(
            f"no run has measured both explained_variance and {RECOVERY}, as the callback Recovery does"
        )
    is_several = len(runs) > 1
    policies = in_order(policy for of_run in points for policy, _, recovery in of_run if recovery is not None)
    series, numbers = [], []
    for policy in policies:
        for number, of_run in enumerate(points, 1):
            ends = [(x, y) for name, x, y in of_run if name == policy and y is not None]
            if ends:
                series.append(Series(name=policy, x=[x for x, _ in ends], y=[y for _, y in ends]))
                numbers.append(number)
    floors = dict.fromkeys(run.last.floors.get(Tag(RECOVERY)) for run in runs)
    x = "explained variance"
    charts: list[Chart] = [
        Scatter(
            title="Features recovered against explained variance",
            series=series,
            x=x,
            y=f"features recovered (best cosine > {THRESHOLD:g})",
            guides=[Guide(floor, _CHANCE_LABEL) for floor in floors if floor is not None],
            percent=True,
            numbers=numbers if is_several else (),
        )
    ]
    references = in_order(policy for of_run in points for policy, _, recovery in of_run if recovery is None)[::-1]
    if references:
        of_references = [
            [(x, references.index(name)) for name, x, recovery in of_run if recovery is None] for of_run in points
        ]
        charts.append(
            Scatter(
                title="For comparison: methods that learn no dictionary",
                series=[
                    Series(name="", x=[x for x, _ in ends], y=[y for _, y in ends], style=REFERENCE, is_listed=False)
                    for ends in of_references
                ],
                x=x,
                y="",
                y_names=[policy_label(policy) for policy in references],
                numbers=range(1, len(runs) + 1) if is_several else (),
            )
        )
    return charts


def _points(run: Run) -> list[tuple[str, float, float | None]]:
    """Return policy, explained variance and recovery of each member that has the first; none without any recovery."""
    values = run.last.values
    recovery = values.get(Tag(RECOVERY), {})
    return [
        (member.policy, value, recovery.get(member))
        for member, value in values.get(Tag("explained_variance"), {}).items()
        if value is not None and any(share is not None for share in recovery.values())
    ]
