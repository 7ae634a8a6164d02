"""The known features of a synthetic run, beside the dictionaries that it learned."""

from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import torch
from jaxtyping import Float

from sae_lightning.datamodules import CachedActivations, SyntheticDataModule
from sae_lightning.figures.chart import FigureSkipped
from sae_lightning.metrics import best_cosine
from sae_lightning.metrics.random_dictionary import random_dictionary
from sae_lightning.runs import Run

THRESHOLD = 0.8
"""Cosine above which a feature counts as recovered."""
_LEAST_FEATURES = 5
"""Fewer features than this say nothing of their bin."""


@dataclass(frozen=True)
class Truth:
    """The features of a run's data, and how near its dictionaries came.

    Args:
        probabilities: how often each fires.
        best: by policy, the largest cosine of each feature to a decoder direction.
        chance: the same for a random dictionary of equal size.
    """

    probabilities: Float[np.ndarray, " n_features"]
    best: dict[str, Float[np.ndarray, "n_seeds n_features"]]
    chance: Float[np.ndarray, " n_features"]


@lru_cache(maxsize=1)  # two figures of a run need it
def read_truth(run: Run, part: str = "") -> Truth:
    """Compare the exported dictionaries with the features of the data.

    Raises:
        FigureSkipped: if either is missing.
    """
    if part:
        kind = "null data" if part in run.measurements.nulls else "the activations of a model"
        raise FigureSkipped(f"the true features of {kind} are not known")
    if not run.config:
        raise FigureSkipped(
            f"its data, and whether they have true features, are not known: there is no {run.folder / 'config.yaml'}, "
            "which `sae fit` writes and training from Python does not"
        )
    kind = run.data["class_path"].rpartition(".")[2]
    try:  # cached activations are a model's, which need not be loaded to find that out
        datamodule = None if kind == CachedActivations.__name__ else run.datamodule((SyntheticDataModule,))
    except ValueError as error:
        raise FigureSkipped(f"{run.folder / 'config.yaml'} does not say which data: {error}") from error
    if not isinstance(datamodule, SyntheticDataModule):
        raise FigureSkipped(f"the true features of {kind} are not known")
    members = [member for member in run.saes if not member.part]
    if not members:
        raise FigureSkipped("there is no saes/: the run has not finished")
    features, probabilities = datamodule.source.features, datamodule.source.firing_probabilities
    assert features is not None
    assert probabilities is not None
    best: dict[str, list[np.ndarray]] = {}
    for member in members:
        sae = run.load(member)
        scaled = features * sae.input_scale if sae.crosscoder else features
        best.setdefault(member.policy, []).append(_numpy(best_cosine(scaled, sae.W_dec.detach())))
    chance = best_cosine(features, random_dictionary(*run.load(members[0]).W_dec.shape))
    stacked = {policy: np.stack(seeds) for policy, seeds in best.items()}
    return Truth(_numpy(probabilities), stacked, _numpy(chance))


def frequency_bins(
    probabilities: Float[np.ndarray, " n_features"], n_bins: int = 12, least: int = _LEAST_FEATURES
) -> Float[np.ndarray, " n_edges"]:
    """Return edges of logarithmic bins of the firing probability with `least` features or more; neighbours are merged.

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
    """Return both ends of the score interval of each share of n (Wilson 1927).

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


def _numpy(values: torch.Tensor) -> np.ndarray:
    return values.double().numpy()
