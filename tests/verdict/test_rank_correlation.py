import numpy as np
import pytest
from scipy import stats

from sae_lightning.verdict.rank_correlation import LEAST_LATENTS, Sample, correlation


def normal(seed, n=100):
    return np.random.default_rng(seed).normal(size=n)


def test_the_correlation_is_that_of_spearman():
    x, y = np.exp(normal(0)), normal(0) + normal(1)
    assert Sample(x, y).rho == pytest.approx(stats.spearmanr(x, y).statistic)
    tied = np.round(y)
    assert Sample(x, tied).rho == pytest.approx(stats.spearmanr(x, tied).statistic)


def test_held_fixed_it_is_that_of_what_the_ranks_of_the_third_leave():
    w = normal(0)
    x, y = w + normal(1) / 2, w + normal(2) / 2

    def residuals(values):
        ranks, held = stats.rankdata(values), stats.rankdata(w)
        return ranks - np.polyval(np.polyfit(held, ranks, 1), held)

    assert Sample(x, y, w).rho == pytest.approx(np.corrcoef(residuals(x), residuals(y))[0, 1])
    assert Sample(x, y).rho > 0.6
    assert abs(Sample(x, y, w).rho) < 0.2


def test_what_has_no_correlation_has_none():
    x = normal(0)
    assert correlation([]) is None
    assert correlation([Sample(x, np.ones_like(x)), Sample(x[: LEAST_LATENTS - 1], x[: LEAST_LATENTS - 1])]) is None
    assert correlation([Sample(x, normal(1), x)]) is None, "stability with stability held fixed"
    found = correlation([Sample(x, x), Sample(x, np.ones_like(x))])
    assert found.rho == pytest.approx(1)
    assert 0.99 < found.low <= found.rho


@pytest.mark.parametrize("rho", [0.0, 0.6])
@pytest.mark.parametrize("held", [False, True])
def test_the_interval_holds_the_true_correlation_19_times_of_20(rho, held):
    random = np.random.default_rng(1)
    true = 6 / np.pi * np.arcsin(rho / 2)  # Spearman's of a normal pair

    def sample():
        x, y, w = random.normal(size=(3, 40))
        return Sample(x, rho * x + np.sqrt(1 - rho**2) * y, w if held else None)

    found = [correlation([sample()]) for _ in range(400)]
    assert np.mean([each.low <= true <= each.high for each in found]) == pytest.approx(0.95, abs=0.025)


def test_seeds_with_the_same_latents_do_not_narrow_the_interval_and_seeds_that_differ_widen_it():
    x, y = normal(0), normal(0) + 2 * normal(1)
    one = correlation([Sample(x, y)])
    assert correlation([Sample(x, y)] * 3) == one
    apart = correlation([Sample(x, y), Sample(x, -y), Sample(x, y)])
    assert apart.low < 0 < one.low
    assert apart.high - apart.low > one.high - one.low
