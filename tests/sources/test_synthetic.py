import numpy as np
import pytest
import torch

from sae_lightning.sources import ConstantProbability, FiringProbability, LogUniformProbability, SyntheticSource

N = 20_000


class Given(FiringProbability):
    def __init__(self, p):
        self.p = p

    def draw(self, n_features, rng):
        return self.p


@pytest.fixture(scope="module")
def constant():
    source = SyntheticSource()
    return source, *source.sample(N)


@pytest.fixture(scope="module")
def variable():
    source = SyntheticSource(LogUniformProbability())
    return source, *source.sample(N)


def test_features_are_unit_and_of_no_direction(constant):
    features = constant[0].features
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3200))
    assert features.mean(0).norm() < 4 / 3200**0.5


def test_constant_l0_is_binomial(constant):
    l0 = constant[2].l0().double()
    assert l0.mean() == pytest.approx(20, abs=5 * (20 / N) ** 0.5)
    assert l0.var() == pytest.approx(20 * (1 - 0.00625), rel=0.05)


@pytest.mark.parametrize("law", ["constant", "variable"])
def test_every_feature_fires_as_often_as_it_should(law, request):
    source, _, code = request.getfixturevalue(law)
    p = source.firing_probabilities
    z = (code.firing_counts() - N * p) / (N * p * (1 - p)).sqrt()
    often = z[N * p > 20]
    assert often.abs().max() < 5
    assert often.std() == pytest.approx(1, abs=5 / (2 * len(often)) ** 0.5)
    rare = N * p <= 20
    assert float(code.firing_counts()[rare].sum()) == pytest.approx(
        float((N * p)[rare].sum()), abs=1 + 5 * float((N * p)[rare].sum()) ** 0.5
    )


def test_probabilities_near_one_are_exact():
    p = torch.tensor([0.9, 0.5, 0.99, 0.001, 0.7]).double().numpy()
    _, code = SyntheticSource(Given(p), d_in=4, n_features=5).sample(N)
    freq = code.firing_counts().double() / N
    torch.testing.assert_close(freq, torch.from_numpy(p), atol=5 * (0.25 / N) ** 0.5, rtol=0)
    dense = (code.to_dense() > 0).double()
    off_diagonal = torch.corrcoef(dense.T) - torch.eye(5)
    assert off_diagonal.abs().max() < 5 / N**0.5


def test_variable_mean_l0(variable):
    source, _, code = variable
    expected = float(source.firing_probabilities.sum())
    assert 19.4 < expected < 21.4  # 20.39 over the law, this draw of 3200 near it
    assert code.l0().double().mean() == pytest.approx(expected, abs=5 * (expected / N) ** 0.5)
    assert -5.5 < source.firing_probabilities.log10().min() < -5.4
    assert -1.3 < source.firing_probabilities.log10().max() < -1.2


def test_coefficients(constant):
    c = constant[2].values.double()
    assert c.mean() == pytest.approx(1.0317, abs=0.003)
    assert c.square().mean() == pytest.approx(1.1331, abs=0.006)
    assert c.min() > 0


def test_samples_are_independent_of_their_neighbours(constant):
    l0 = constant[2].l0().double()
    assert torch.corrcoef(torch.stack([l0[:-1], l0[1:]]))[0, 1].abs() < 5 / N**0.5


def test_total_variance(constant):
    x = constant[1].double()
    assert (x - x.mean(0)).square().sum(1).mean() == pytest.approx(22.53, rel=0.02)


def test_code_makes_x_and_has_no_latent_twice(constant):
    source, x, code = constant
    flat = code.rows * 3200 + code.indices
    assert (flat.diff() > 0).all()
    torch.testing.assert_close(code.to_dense()[:500] @ source.features, x[:500], atol=1e-4, rtol=1e-4)


def test_a_batch_depends_on_seed_stream_and_index_only():
    a, b = SyntheticSource(seed=3), SyntheticSource(seed=3)
    a.sample(7, 5)
    torch.testing.assert_close(a.sample(10, 2)[0], b.sample(10, 2)[0], rtol=0, atol=0)
    assert torch.equal(a.features, b.features)
    for other in (b.sample(10, 1)[0], b.sample(10, 2, "validation")[0], SyntheticSource(seed=4).sample(10, 2)[0]):
        assert not torch.equal(a.sample(10, 2)[0], other)
    assert torch.equal(SyntheticSource(LogUniformProbability(), seed=3).features, a.features)


def test_a_line_that_ends_early_is_continued():
    source = SyntheticSource(d_in=4, n_features=10)
    draws = []

    class Short(np.random.Generator):
        def standard_exponential(self, n):
            draws.append(n)
            return super().standard_exponential(n if len(draws) > 3 else 2)

    firings = source._firings(Short(np.random.PCG64(0)), 1000)
    assert len(draws) > 1
    assert firings.max() > 9000


def test_nothing_fires():
    x, code = SyntheticSource(ConstantProbability(1e-12), d_in=3, n_features=4).sample(5)
    assert code.nnz == 0
    assert torch.equal(x, torch.zeros(5, 3))


def test_sample_norm_scales_whole_samples_and_their_codes():
    plain, scaled = (SyntheticSource(d_in=10, n_features=200, sample_norm=norm) for norm in (None, 3.0))
    (x, code), (y, of_y) = plain.sample(50), scaled.sample(50)
    norm = x.norm(dim=1, keepdim=True).clamp_min(1e-12)
    assert (norm > 1e-6).sum() < 50  # a sample without a feature stays zero
    torch.testing.assert_close(y, 3 * x / norm)
    torch.testing.assert_close(scaled.decode(of_y), y)
    assert torch.equal(of_y.indices, code.indices)


def test_capture_and_replace(constant):
    source, x, _ = constant
    activations, mask = source.capture(x[:4])
    assert torch.equal(activations, x[:4])
    assert mask.all()
    assert torch.equal(source.replace(x[:4], lambda a: 2 * a), 2 * x[:4])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConstantProbability(1.5), "p=1.5"),
        (lambda: ConstantProbability(0.0), "p=0"),
        (lambda: LogUniformProbability(-1.0, -2.0), "log10_min < log10_max"),
        (lambda: SyntheticSource(n_features=0), "n_features=0"),
        (lambda: SyntheticSource(d_in=0), "d_in=0"),
        (lambda: SyntheticSource(coefficient_sigma=-1.0), "coefficient_sigma=-1"),
        (lambda: SyntheticSource(sample_norm=0.0), "sample_norm=0"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
