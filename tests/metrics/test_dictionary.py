import math
from itertools import permutations

import pytest
import torch
from temporaries import Temporaries
from torch.nn.functional import cosine_similarity, normalize

from sae_lightning.metrics import (
    best_cosine,
    best_match,
    cosine_to_start,
    dictionary,
    evenly_spaced_rows,
    matched_cosine,
    recovered_fraction,
    uniqueness,
)


def random_rows(n, d_in, seed):
    return normalize(torch.randn(n, d_in, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_the_true_dictionary_recovers_every_feature_in_any_order_and_scale():
    features = random_rows(30, 10, 0)
    shuffled = features[torch.randperm(30, generator=torch.Generator().manual_seed(1))] * 3
    best = best_cosine(features, shuffled)
    torch.testing.assert_close(best, torch.ones(30))
    assert recovered_fraction(best, 0.8) == 1
    torch.testing.assert_close(matched_cosine(features, shuffled), torch.ones(30))
    assert uniqueness(features, shuffled) == 1


def test_the_sign_counts_unless_asked_not_to():
    features = torch.eye(4)
    assert best_cosine(features, -features).max() == 0
    assert matched_cosine(features, -features).sum() == 0
    assert best_cosine(features, -features, absolute=True).min() == 1
    assert matched_cosine(features, -features, absolute=True).min() == 1
    one_turned = features * torch.tensor([[-1.0], [1.0], [1.0], [1.0]])
    assert best_cosine(features, one_turned).tolist() == [0, 1, 1, 1]
    assert uniqueness(features, one_turned) == 0.75  # the turned one is as near to each of the others


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize(("n_features", "d_sae"), [(4, 6), (6, 4), (5, 5), (1, 3)])
def test_the_matching_is_the_best_of_all(n_features, d_sae, absolute):
    features, W_dec = random_rows(n_features, 3, 0), 2 * random_rows(d_sae, 3, 1)
    cosines = cosine_similarity(features[:, None], W_dec[None], dim=2)
    cosines = cosines.abs() if absolute else cosines
    wide = cosines if n_features <= d_sae else cosines.T
    chosen = (wide[torch.arange(len(wide)), list(columns)] for columns in permutations(range(wide.shape[1]), len(wide)))
    matched = matched_cosine(features, W_dec, absolute)
    assert matched.shape == (min(n_features, d_sae),)
    assert matched.sum().item() == pytest.approx(max(values.sum().item() for values in chosen), abs=1e-5)
    assert torch.isclose(matched[:, None, None], cosines).any(2).any(1).all()  # each is a cosine of some pair


def test_matched_cosines_are_in_order_of_features():
    features = torch.eye(3)
    W_dec = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 0.0, 0.1]])
    torch.testing.assert_close(matched_cosine(features, W_dec), torch.tensor([0.9950, 0.7071, 1.0]), atol=1e-4, rtol=0)


def test_uniqueness_counts_features_that_some_latent_prefers():
    features, W_dec = random_rows(8, 5, 0), random_rows(12, 5, 1)
    preferred = {int((features @ row).argmax()) for row in W_dec}
    assert uniqueness(features, W_dec).item() == len(preferred) / 12
    assert uniqueness(features, features[:1].expand(10, -1)).item() == 0.1


def test_recovery_is_strictly_above_the_threshold():
    assert recovered_fraction(torch.tensor([0.5, 0.500001, 0.4]), 0.5).item() == pytest.approx(1 / 3)


def test_drift_of_the_dictionaries_of_gemma_takes_a_fraction_of_one():
    W_dec, start = (torch.empty(73_728, 2304, device="meta") for _ in range(2))
    with Temporaries() as made:
        assert cosine_to_start(W_dec, start).shape == (73_728,)
    assert max(made.sizes) <= dictionary._BLOCK_ENTRIES


def test_cosines_take_no_copy_of_a_dictionary(monkeypatch):
    monkeypatch.setattr(dictionary, "_BLOCK_ENTRIES", 3000)
    features, W_dec = random_rows(500, 20, 0), random_rows(500, 20, 1)
    with Temporaries() as made:
        best_cosine(features, W_dec)
        dictionary.nearest_other(W_dec)
    assert max(made.sizes) <= 3000


def test_blocks_give_the_same_as_all_at_once(monkeypatch):
    features, W_dec = random_rows(11, 5, 0), random_rows(7, 5, 1)
    expected = cosine_similarity(features[:, None], W_dec[None], dim=2).amax(1)
    for entries in (1, 14, 1000):
        monkeypatch.setattr(dictionary, "_BLOCK_ENTRIES", entries)
        torch.testing.assert_close(best_cosine(features, W_dec), expected)
        assert torch.equal(best_match(W_dec, features), (W_dec @ features.T).argmax(1))
        torch.testing.assert_close(best_match(features, W_dec), (features @ W_dec.T).argmax(1))


def test_autocast_does_not_round_cosines():
    features, W_dec = random_rows(20, 50, 0), random_rows(20, 50, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(best_cosine(features, W_dec), best_cosine(features, W_dec))
        assert best_cosine(features, features).sub(1).abs().max() < 1e-6


def chance(d_in, d_sae):
    """E[max of d_sae cosines] = 1 - integral of F(t)^d_sae, with (t + 1) / 2 ~ Beta((d_in - 1) / 2, (d_in - 1) / 2)."""
    t = torch.linspace(-1, 1, 200_001, dtype=torch.float64)
    density = (1 - t**2).clamp_min(0) ** ((d_in - 3) / 2)
    cdf = density.cumsum(0) / density.sum()
    return 1 - torch.trapezoid(cdf**d_sae, t).item()


@pytest.mark.parametrize(("d_in", "d_sae", "known"), [(100, 3200, 0.347), (128, 1024, 0.283)])
def test_a_random_dictionary_scores_at_chance(d_in, d_sae, known):
    assert chance(d_in, d_sae) == pytest.approx(known, abs=1e-3)
    best = best_cosine(random_rows(d_sae, d_in, 0), random_rows(d_sae, d_in, 1))
    assert best.mean().item() == pytest.approx(known, abs=3 * best.std().item() / math.sqrt(d_sae) + 1e-3)
    assert recovered_fraction(best, 0.8) == 0


@pytest.mark.slow
def test_chance_of_every_score_in_the_setting_of_the_paper():
    features, W_dec = random_rows(3200, 100, 0), random_rows(3200, 100, 1)
    means = {
        (score.__name__, absolute): score(features, W_dec, absolute).mean().item()
        for score in (best_cosine, matched_cosine)
        for absolute in (False, True)
    }
    assert means == pytest.approx(
        {
            ("best_cosine", False): 0.347,
            ("best_cosine", True): 0.364,
            ("matched_cosine", False): 0.337,
            ("matched_cosine", True): 0.354,
        },
        abs=0.003,
    )
    assert uniqueness(features, W_dec).item() == pytest.approx(1 - math.exp(-1), abs=0.02)


def test_cosine_to_start_equals_torch_and_is_one_without_movement():
    start, moved = random_rows(9, 6, 0), 2 * random_rows(9, 6, 1)
    torch.testing.assert_close(
        cosine_to_start(moved, start), cosine_similarity(moved.double(), start.double()), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(cosine_to_start(start, start), torch.ones(9, dtype=torch.float64))
    assert cosine_to_start(torch.zeros(9, 6), start).abs().max() == 0


def test_evenly_spaced_rows_are_spread_over_the_dictionary():
    rows = torch.arange(10.0)[:, None]
    assert evenly_spaced_rows(rows, 4).flatten().tolist() == [0, 3, 6, 9]
    assert torch.equal(evenly_spaced_rows(rows, 99), rows)
