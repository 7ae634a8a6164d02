import hashlib
from itertools import product

import numpy as np
import pytest
import torch

from sae_lightning.datamodules import SyntheticDataModule
from sae_lightning.sources import (
    ConstantProbability,
    CorrelatedFiring,
    FiringProbability,
    HierarchicalFiring,
    IndependentFirings,
    LogUniformProbability,
    SyntheticSource,
)

N = 40_000


class Given(FiringProbability):
    def __init__(self, *p):
        self.p = np.array(p)

    def draw(self, n_features, rng):
        return self.p


def flat(code):
    return (code.rows * code.d_sae + code.indices).numpy()


def dense(firings, n):
    """[n, n_features] bool, of the first n samples."""
    fires = np.zeros((n, len(firings.probabilities)), dtype=bool)
    fires.reshape(-1)[firings(np.random.default_rng(1), n)] = True
    return fires


def made(dependence, *p):
    return dependence.firings(np.array(p), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("source", "n", "index", "stream", "sha256", "coefficients"),
    [
        (SyntheticSource(), 64, 0, "sample", "6ddf66d2f49fc059", [1.5467, 0.6191, 0.8033]),
        (
            SyntheticSource(LogUniformProbability(), seed=3),
            64,
            5,
            "train",
            "e7351c7451aa10a4",
            [0.6757, 1.1572, 0.7338],
        ),
        (
            SyntheticSource(Given(0.9, 0.5, 0.99, 0.001, 0.7), d_in=4, n_features=5),
            *(20, 2, "validation", "e535ccf13d96e577", [0.5813, 0.9977, 1.7313]),
        ),
    ],
)
def test_independent_features_fire_as_ever(source, n, index, stream, sha256, coefficients):
    _, code = source.sample(n, index, stream)
    assert hashlib.sha256(flat(code).tobytes()).hexdigest()[:16] == sha256
    torch.testing.assert_close(code.values[:3], torch.tensor(coefficients), atol=1e-4, rtol=0)


def groups_law(firings, dependence):
    """How often a pattern [n_features] occurs, summed over which groups are on."""
    p, groups = firings.probabilities, firings.groups
    switch = np.array([p[groups == g].max() for g in range(groups.max() + 1)]) / dependence.correlation

    def law(pattern):
        total = 0.0
        for on in product([False, True], repeat=len(switch)):
            when_on = np.where(np.array(on)[groups], p / switch[groups], 0)
            total += np.where(on, switch, 1 - switch).prod() * np.where(pattern, when_on, 1 - when_on).prod()
        return total

    return law


def forest_law(firings, dependence):
    """How often a pattern [n_features] occurs; the probabilities of the roots are those of the firings."""
    first, branching, p = dependence.n_roots, dependence.branching, firings.probabilities

    def law(pattern):
        parent_fires = pattern[[(i - first) // branching for i in range(first, len(p))]]
        given = np.concatenate([p[:first], dependence.child_probability * parent_fires])
        return np.where(pattern, given, 1 - given).prod()

    return law


P = 0.3, 0.1, 0.02, 0.25, 0.3, 0.15, 0.2


@pytest.mark.parametrize(
    "dependence",
    [
        CorrelatedFiring(group_size=3, correlation=0.5),  # groups of 3, 3 and 1
        CorrelatedFiring(group_size=2, correlation=0.4),
        CorrelatedFiring(group_size=3, correlation=1.0),
        CorrelatedFiring(group_size=10**12, correlation=0.31),
        HierarchicalFiring(branching=2, n_roots=2, child_probability=0.6),  # 2, 4 and 1
        HierarchicalFiring(branching=1, n_roots=3, child_probability=1.0),  # chains of 3, 2 and 2
        HierarchicalFiring(branching=5, n_roots=1, child_probability=0.3),  # 1, 5 and 1
        HierarchicalFiring(branching=10**12, n_roots=2, child_probability=0.3),  # all below the first root
    ],
    ids=lambda dependence: type(dependence).__name__ + str(list(vars(dependence).values())),
)
def test_every_pattern_of_firings_is_as_frequent_as_it_should(dependence):
    firings = made(dependence, *P)
    law = (groups_law if isinstance(dependence, CorrelatedFiring) else forest_law)(firings, dependence)
    patterns = np.array(list(product([False, True], repeat=7)))
    expected = np.array([law(pattern) for pattern in patterns])
    assert expected.sum() == pytest.approx(1)
    np.testing.assert_allclose(expected @ patterns, firings.probabilities)
    counts = np.bincount(dense(firings, N) @ (1 << np.arange(7)[::-1]), minlength=128)
    assert (counts[expected < 1e-12] == 0).all()
    assert (np.abs(counts - N * expected) <= 1 + 5 * (N * expected * (1 - expected)) ** 0.5).all()


@pytest.mark.parametrize("dependence", [CorrelatedFiring(), HierarchicalFiring(branching=3, n_roots=40)])
@pytest.mark.parametrize("law", [ConstantProbability(0.02), LogUniformProbability()])
def test_every_feature_fires_as_often_as_it_should(dependence, law):
    source = SyntheticSource(law, d_in=2, n_features=333, dependence=dependence)
    p = source.firing_probabilities
    code = source.sample(N)[1]
    z = (code.firing_counts() - N * p) / (N * p * (1 - p)).sqrt()
    assert z[N * p > 20].abs().max() < 5
    assert float(code.firing_counts()[N * p <= 20].sum()) == pytest.approx(float((N * p)[N * p <= 20].sum()), rel=0.3)
    l0 = code.l0().double()
    assert torch.corrcoef(torch.stack([l0[:-1], l0[1:]]))[0, 1].abs() < 5 / N**0.5


def test_correlated_features_keep_the_probabilities_of_their_law():
    independent = SyntheticSource(LogUniformProbability(), d_in=2)
    correlated = SyntheticSource(LogUniformProbability(), d_in=2, dependence=CorrelatedFiring())
    assert torch.equal(independent.firing_probabilities, correlated.firing_probabilities)
    assert torch.equal(independent.features, correlated.features)


@pytest.mark.parametrize(("p", "correlation"), [(0.02, 0.3), (0.2, 0.5), (0.1, 1.0)])
def test_correlation_of_equally_frequent_members(p, correlation):
    firings = made(CorrelatedFiring(4, correlation), *[p] * 12)
    measured = np.corrcoef(dense(firings, N).T)
    together = firings.groups[:, None] == firings.groups
    expected = np.where(together, (correlation - p) / (1 - p), 0)
    np.fill_diagonal(expected, 1)
    assert np.abs(measured - expected)[~together].max() < 5 / N**0.5
    assert np.abs(measured - expected)[together].max() < 5 / (N * p) ** 0.5


def test_correlation_of_members_that_are_not_equally_frequent():
    p = np.array([0.2, 0.05, 0.1])
    firings = made(CorrelatedFiring(3, 0.4), *p)
    odds = p / (1 - p)
    expected = np.sqrt(odds[:, None] * odds) * (1 - 0.5) / 0.5  # the group is on in half of all samples
    np.fill_diagonal(expected, 1)
    assert np.abs(np.corrcoef(dense(firings, N).T) - expected).max() < 5 / (N * 0.05) ** 0.5


def test_groups_are_random_and_the_last_has_those_that_remain():
    dependence = CorrelatedFiring(group_size=10)
    one, other = (dependence.firings(np.full(47, 0.01), np.random.default_rng(seed)).groups for seed in (0, 1))
    assert np.bincount(one).tolist() == np.bincount(other).tolist() == [10, 10, 10, 10, 7]
    assert (one != other).any()
    assert (np.diff(one) < 0).any()


def test_correlation_one_of_equal_features_is_all_or_none():
    firings = made(CorrelatedFiring(3, 1.0), *[0.3] * 7)
    fires = dense(firings, 500)
    for group in range(3):
        members = fires[:, firings.groups == group]
        assert (members.all(1) == members.any(1)).all()
        assert 0 < members.any(1).mean() < 1


def test_groups_of_one_are_independent():
    firings = made(CorrelatedFiring(1, 0.7), *P)
    off_diagonal = np.corrcoef(dense(firings, N).T) - np.eye(7)
    assert np.abs(off_diagonal).max() < 5 / N**0.5


def test_roots_alone_are_independent_features():
    p = np.full(30, 0.1)
    firings = HierarchicalFiring(n_roots=30).firings(p, np.random.default_rng(0))
    for seed in range(3):
        expected = IndependentFirings(p)(np.random.default_rng(seed), 50)
        assert np.array_equal(firings(np.random.default_rng(seed), 50), expected)


def test_a_child_fires_only_with_its_parent():
    source = SyntheticSource(ConstantProbability(0.05), d_in=2, dependence=HierarchicalFiring())
    fires = source.sample(2000)[1].to_dense().numpy() > 0
    children = np.arange(160, 3200)
    parents = (children - 160) // 4
    assert not (fires[:, children] & ~fires[:, parents]).any()
    with_parent = fires[:, parents].sum()
    assert fires[:, children].sum() / with_parent == pytest.approx(0.5, abs=5 * 0.5 / with_parent**0.5)


def test_probabilities_of_a_forest():
    source = SyntheticSource(Given(*P), d_in=2, n_features=7, dependence=HierarchicalFiring(2, 2, 0.5))
    assert source.firing_probabilities.tolist() == pytest.approx([0.3, 0.1, 0.15, 0.15, 0.05, 0.05, 0.075])
    default = SyntheticSource(ConstantProbability(0.0185), d_in=2, dependence=HierarchicalFiring())
    assert float(default.firing_probabilities.sum()) == pytest.approx(1080 * 0.0185) == pytest.approx(20, abs=0.1)


DEPENDENCES = [CorrelatedFiring(group_size=7), HierarchicalFiring(branching=3, n_roots=12)]
both = pytest.mark.parametrize("dependence", DEPENDENCES)


@both
def test_positions_are_sorted_and_unique(dependence):
    firings = made(dependence, *[0.2] * 100)(np.random.default_rng(0), 300)
    assert firings.dtype == np.int64
    assert (np.diff(firings) > 0).all()
    assert 0 <= firings.min() < 100
    assert 299 * 100 <= firings.max() < 300 * 100


@both
def test_a_batch_depends_on_seed_stream_and_index_only(dependence):
    a, b, other = (SyntheticSource(ConstantProbability(0.1), 4, 50, dependence=dependence, seed=s) for s in (3, 3, 4))
    a.sample(7, 5)
    assert torch.equal(a.sample(10, 2)[0], b.sample(10, 2)[0])
    for x in (b.sample(10, 1)[0], b.sample(10, 2, "validation")[0], other.sample(10, 2)[0]):
        assert not torch.equal(a.sample(10, 2)[0], x)


@both
def test_nothing_fires(dependence):
    source = SyntheticSource(ConstantProbability(1e-12), d_in=3, n_features=50, dependence=dependence)
    x, code = source.sample(5)
    assert code.nnz == 0
    assert torch.equal(x, torch.zeros(5, 3))


@both
def test_code_makes_x(dependence):
    source = SyntheticSource(ConstantProbability(0.1), d_in=3, n_features=50, dependence=dependence)
    x, code = source.sample(40)
    torch.testing.assert_close(code.to_dense() @ source.features, x, atol=1e-4, rtol=1e-4)


@both
def test_draws_are_in_proportion_to_the_firings(dependence):
    drawn = []

    class Counting(np.random.Generator):
        def random(self, shape):
            drawn.append(np.prod(shape))
            return super().random(shape)

    firings = made(dependence, *[0.001] * 1000)(Counting(np.random.PCG64(0)), 2000)
    assert sum(drawn) < 2.5 * len(firings)


def test_a_feature_of_probability_zero_never_fires():
    firings = made(CorrelatedFiring(2, 0.5), *[0.0] * 7, 0.3)
    fires = dense(firings, 300)
    assert not fires[:, :7].any()
    assert fires[:, 7].any()


@both
def test_the_datamodule_passes_it_on(dependence):
    law = ConstantProbability(0.1)
    data = SyntheticDataModule(law, 4, 50, dependence=dependence, batch_size=16, seed=5)
    source = SyntheticSource(law, 4, 50, dependence=dependence, seed=5)
    assert torch.equal(next(data.train_stream()), source.sample(16, 0, "train")[0])
    assert not torch.equal(next(data.train_stream()), SyntheticSource(law, 4, 50, seed=5).sample(16, 0, "train")[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CorrelatedFiring(group_size=0), "group_size=0"),
        (lambda: CorrelatedFiring(correlation=0.0), "correlation=0.0"),
        (lambda: CorrelatedFiring(correlation=1.1), "correlation=1.1"),
        (lambda: made(CorrelatedFiring(correlation=0.2), 0.1, 0.2), "correlation=0.2, .* probability 0.2: expected"),
        (lambda: HierarchicalFiring(branching=0), "branching=0"),
        (lambda: HierarchicalFiring(n_roots=0), "n_roots=0"),
        (lambda: HierarchicalFiring(child_probability=0.0), "child_probability=0.0"),
        (lambda: HierarchicalFiring(child_probability=1.1), "child_probability=1.1"),
        (lambda: made(HierarchicalFiring(n_roots=3), 0.1, 0.2), "n_roots=3, n_features=2"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
