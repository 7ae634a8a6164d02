"""Non-negative pursuit against OMP of sklearn, against NNLS of SciPy, and where there is little to find."""

import pytest
import torch
from scipy.optimize import nnls
from torch.nn.functional import normalize

from sae_lightning.metrics.nonnegative_pursuit import pursue_nonnegative
from sae_lightning.metrics.pursuit import pursue

D_IN, D_SAE = 24, 96


def problem(n=200, seed=0):
    """Samples with a decaying spectrum, and a random dictionary that has it too."""
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.arange(1, D_IN + 1) ** -0.5
    dictionary = normalize(torch.randn(D_SAE, D_IN, generator=generator) * spectrum, dim=1)
    return torch.randn(n, D_IN, generator=generator) * spectrum, dictionary


def one_at_a_time(x, dictionary, k):
    """Return the residuals of non-negative OMP by the book, in float64."""
    x, dictionary = x.double().numpy(), dictionary.double().numpy()
    residuals = []
    for sample in x:
        support, residual = [], sample
        for _ in range(k):
            support.append(int((dictionary @ residual).argmax()))
            values, _ = nnls(dictionary[support].T, sample)
            residual = sample - values @ dictionary[support]
        residuals.append(torch.from_numpy(residual))
    return torch.stack(residuals)


def explained(x, residual):
    return 1 - float(residual.square().sum() / x.square().sum())


@pytest.mark.parametrize("k", [1, 3, 8])
def test_it_is_as_good_as_one_direction_at_a_time(k):
    x, dictionary = problem()
    found = pursue_nonnegative(x, dictionary, k)
    by_the_book = explained(x, one_at_a_time(x, dictionary, k))
    assert explained(x, found.residual) > by_the_book - 0.005
    signed, _ = pursue(x, torch.cat([dictionary, -dictionary]), k)  # with no sign to lose
    assert explained(x, found.residual) < explained(x, x - signed)
    assert (found.values >= 0).all()
    assert (found.n_entries() == k).all()
    torch.testing.assert_close(x - found.code(D_SAE).to_dense() @ dictionary, found.residual)


def test_few_rounds_cost_little():
    x, dictionary = problem()
    best = explained(x, pursue_nonnegative(x, dictionary, 12, rounds=12).residual)
    assert best > explained(x, pursue_nonnegative(x, dictionary, 12, rounds=4).residual) > best - 0.02


def test_no_direction_is_taken_twice():
    x, dictionary = problem(300)
    found = pursue_nonnegative(x, dictionary, 12, rounds=3)
    in_order = found.indices.where(found.values > 0, -1 - torch.arange(12)).sort(dim=1).values
    assert (in_order.diff(dim=1) > 0).all()


def test_coefficients_are_those_of_non_negative_least_squares():
    x, dictionary = problem(40)
    found = pursue_nonnegative(x, dictionary, 6)
    for sample, indices, values in zip(x, found.indices, found.values, strict=True):
        best, _ = nnls(dictionary[indices].double().numpy().T, sample.double().numpy())
        torch.testing.assert_close(values.double(), torch.from_numpy(best), atol=1e-4, rtol=1e-3)


def test_sums_of_few_directions_are_found_again():
    _, dictionary = problem()
    x = 2 * dictionary[[3, 10]] + torch.tensor([[1.0], [0.5]]) * dictionary[[40, 41]]
    found = pursue_nonnegative(x, dictionary, 2)
    assert found.residual.abs().max() < 1e-4
    assert [sorted(row) for row in found.indices.tolist()] == [[3, 40], [10, 41]]
    more = pursue_nonnegative(torch.cat([x, torch.zeros(1, D_IN)]), dictionary, 9)
    assert more.residual.abs().max() < 1e-4
    assert more.n_entries()[2] == 0


def test_what_no_direction_points_to_stays():
    found = pursue_nonnegative(-torch.eye(4), torch.eye(4), 2)
    assert (found.n_entries() == 0).all()
    assert torch.equal(found.residual, -torch.eye(4))


def test_no_entries_and_no_samples():
    x, dictionary = problem(5)
    assert pursue_nonnegative(x, dictionary, 0).code(D_SAE).nnz == 0
    assert pursue_nonnegative(x[:0], dictionary, 4).code(D_SAE).batch_size == 0


def test_twins_in_the_dictionary_do_no_harm():
    x, dictionary = problem(50)
    doubled = pursue_nonnegative(x, torch.cat([dictionary, dictionary]), 8)
    assert explained(x, doubled.residual) > explained(x, pursue_nonnegative(x, dictionary, 8).residual) - 0.02


@pytest.mark.parametrize("k", [1, 7])
def test_products_of_all_directions_are_a_matter_of_speed(k, monkeypatch):
    x, dictionary = problem(60)
    whole = pursue_nonnegative(x, dictionary, k)
    monkeypatch.setattr("sae_lightning.metrics.nonnegative_pursuit._LARGEST_GRAM", 0)
    torch.testing.assert_close(pursue_nonnegative(x, dictionary, k).residual, whole.residual)


def test_blocks_of_samples_do_not_change_the_result(monkeypatch):
    x, dictionary = problem(60)
    whole = pursue_nonnegative(x, dictionary, 5)
    monkeypatch.setattr("sae_lightning.metrics.nonnegative_pursuit._BLOCK_ENTRIES", 7 * 13 * D_IN)
    residual = pursue_nonnegative(x, dictionary, 5).residual
    # Products of few rows may be rounded otherwise, and a near tie between two directions then goes the other way.
    same = (residual - whole.residual).abs().amax(1) < 1e-3
    assert same.double().mean() > 0.9
    assert residual.square().sum().item() == pytest.approx(whole.residual.square().sum().item(), rel=1e-2)
