"""What is computed of known features, on examples made by hand and on a tiny run."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from sae_lightning.figures.training import sae_policies
from sae_lightning.figures.truth import by_frequency, frequency_bins, read_truth, wilson
from sae_lightning.members import Tag
from sae_lightning.runs import Run

POLICIES = {"trained", "frozen_decoder", "oracle"}


def test_bins_hold_enough_features_and_all_of_them():
    probabilities = 10 ** np.random.default_rng(0).uniform(-5.5, -1.2, 200)
    edges = frequency_bins(probabilities)
    counts = np.histogram(probabilities, edges)[0]
    assert counts.sum() == 200
    assert counts.min() >= 5
    np.testing.assert_allclose(np.diff(np.log10(edges)), 4.3 / 12, rtol=0.05)  # none had to be merged


def test_small_bins_are_merged():
    probabilities = np.array([1e-4] * 5 + [1e-3] * 2 + [1e-2] * 3 + [1e-1] * 4)
    edges = frequency_bins(probabilities, n_bins=6, least=5)
    assert np.histogram(probabilities, edges)[0].tolist() == [5, 9]
    assert (edges[0], edges[-1]) == (1e-4, 1e-1)
    assert frequency_bins(probabilities[3:7], least=5).tolist() == [1e-4, 1e-3]  # too few of all


@pytest.mark.parametrize(("hits", "n"), [(0, 12), (3, 12), (12, 12), (250, 1000)])
def test_the_interval_is_wilsons(hits: int, n: int):
    expected = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    low, high = wilson(np.array([hits / n]), np.array([float(n)]))
    np.testing.assert_allclose([low[0], high[0]], [expected.low, expected.high], atol=1e-12)


def test_recovery_in_bins():
    probabilities = np.array([0.001, 0.002, 0.05, 0.06, 0.07, 0.1])
    best = np.array([[0.1, 0.9, 0.9, 0.9, 0.9, 0.80], [0.3, 0.7, 0.9, 0.9, 0.9, 0.90]])
    bins = by_frequency(best, probabilities, np.array([0.001, 0.01, 0.1]))
    np.testing.assert_allclose(bins.share, [0.25, 7 / 8])
    np.testing.assert_allclose(bins.cosine, [0.5, 7.1 / 8])
    low, high = wilson(bins.share, np.array([2.0, 4.0]))  # features, not seeds times features
    np.testing.assert_array_equal([bins.low, bins.high], [low, high])


def test_what_is_known_of_a_run_is_what_it_measured(finished: Path):
    run = Run(finished)
    truth, last = read_truth(run), run.measurements
    assert run.last.samples == 512
    assert set(truth.best) == {member.policy for member in run.saes} == sae_policies(run, "") == POLICIES
    for policy, best in truth.best.items():
        assert best.shape == (2, 64)
        nearest, recovered = (
            list(last.by_policy(Tag(name))[policy].values()) for name in ("mean_best_cosine", "recovery_at_0.8")
        )
        np.testing.assert_allclose(best.mean(1), nearest)
        np.testing.assert_allclose((best > 0.8).mean(1), recovered)
    # The chart shows one draw of random directions, the floor is a mean over several.
    np.testing.assert_allclose(truth.chance.mean(), last.floors[Tag("mean_best_cosine")], atol=0.03)
    oracle = truth.best["oracle"][0] > 0.999  # takes the features that fire most
    assert oracle.sum() == 24
    assert truth.probabilities[oracle].min() > truth.probabilities[~oracle].max()
