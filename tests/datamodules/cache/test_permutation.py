import numpy as np
import pytest
from scipy.stats import chisquare

from sae_lightning.datamodules.cache.permutation import Permutation


@pytest.mark.parametrize("n", [1, 2, 3, 5, 255, 256, 257, 1000, 1023, 1024, 1025, 65_537, 100_003])
def test_every_number_once(n):
    numbers = Permutation(n, 0, 0)(np.arange(n))
    assert numbers.dtype == np.int64
    assert np.array_equal(np.sort(numbers), np.arange(n))


def test_both_ends_of_a_large_range():
    n = 3 * 2**40 + 17
    permutation = Permutation(n, 4)
    ends = permutation(np.concatenate([np.arange(1000), np.arange(n - 1000, n)]))
    assert len(np.unique(ends)) == 2000
    assert ends.min() >= 0
    assert ends.max() < n
    assert ends.min() < n // 100
    assert ends.max() > n - n // 100


def test_any_part_is_that_of_the_whole():
    permutation = Permutation(5000, 7, 1)
    whole = permutation(np.arange(5000))
    assert np.array_equal(permutation(np.array([4999, 0, 123])), whole[[4999, 0, 123]])


@pytest.mark.parametrize("other", [(1, 0), (0, 1)])
def test_another_seed_or_pass_is_another_permutation(other):
    n = 20_000
    first, second = Permutation(n, 0, 0)(np.arange(n)), Permutation(n, *other)(np.arange(n))
    assert (first == second).sum() < 10  # 1 is expected
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / n**0.5


@pytest.mark.parametrize("n", [30_000, 65_536])
def test_neighbours_are_torn_apart(n):
    numbers = Permutation(n, 3, 2)(np.arange(n))
    for lag in (1, 2, 7, 256):
        assert abs(np.corrcoef(numbers[:-lag], numbers[lag:])[0, 1]) < 5 / n**0.5
    assert abs(np.corrcoef(numbers, np.arange(n))[0, 1]) < 5 / n**0.5
    assert (np.abs(np.diff(numbers)) == 1).sum() < 12  # 2 are expected
    assert 0.3 < (np.diff(numbers) > 0).mean() / (1 - (np.diff(numbers) > 0).mean()) < 3


def test_a_stretch_of_positions_has_numbers_from_everywhere():
    n = 1_000_003
    for begin in (0, n // 2, n - 20_000):
        numbers = Permutation(n, 11, 0)(np.arange(begin, begin + 20_000))
        assert chisquare(np.bincount(numbers * 100 // n, minlength=100)).pvalue > 1e-4


def test_each_number_is_as_likely_as_another_at_each_position():
    n, times = 7, 2100
    counts = np.zeros((n, n))
    for key in range(times):
        counts[np.arange(n), Permutation(n, key)(np.arange(n))] += 1
    assert chisquare(counts.ravel(), ddof=2 * n - 2).pvalue > 1e-4


def test_pairs_of_positions_are_independent():
    n, times = 5, 2000
    counts = np.zeros((n, n))
    for key in range(times):
        first, second = Permutation(n, key)(np.arange(2))
        counts[first, second] += 1
    assert chisquare(counts[~np.eye(n, dtype=bool)]).pvalue > 1e-4
