"""What is computed: recovery by how often features fire, metrics over training, and where it ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import Any

import numpy as np
from jaxtyping import Float

from sae_lightning.figures.runs import RECOVERY, THRESHOLD

LEAST_FEATURES = 5
"""Fewer features than this say nothing of their bin."""


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
