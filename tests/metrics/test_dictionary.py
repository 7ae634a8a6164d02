import math

import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize

from sae_lightning.metrics import best_cosine, cosine_to_start, dictionary, recovered_fraction


def random_rows(n, d_in, seed):
    return normalize(torch.randn(n, d_in, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_the_true_dictionary_recovers_every_feature_in_any_order_and_scale():
    features = random_rows(30, 10, 0)
    shuffled = features[torch.randperm(30, generator=torch.Generator().manual_seed(1))] * 3
    best = best_cosine(features, shuffled)
    torch.testing.assert_close(best, torch.ones(30))
    assert recovered_fraction(best, 0.8) == 1


def test_the_sign_counts():
    features = torch.eye(4)
    assert best_cosine(features, -features).max() == 0


def test_recovery_is_strictly_above_the_threshold():
    assert recovered_fraction(torch.tensor([0.5, 0.500001, 0.4]), 0.5).item() == pytest.approx(1 / 3)


def test_blocks_give_the_same_as_all_at_once(monkeypatch):
    features, W_dec = random_rows(11, 5, 0), random_rows(7, 5, 1)
    expected = cosine_similarity(features[:, None], W_dec[None], dim=2).amax(1)
    for entries in (1, 14, 1000):
        monkeypatch.setattr(dictionary, "_BLOCK_ENTRIES", entries)
        torch.testing.assert_close(best_cosine(features, W_dec), expected)


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


def test_cosine_to_start_equals_torch_and_is_one_without_movement():
    start, moved = random_rows(9, 6, 0), 2 * random_rows(9, 6, 1)
    torch.testing.assert_close(
        cosine_to_start(moved, start), cosine_similarity(moved.double(), start.double()), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(cosine_to_start(start, start), torch.ones(9, dtype=torch.float64))
    assert cosine_to_start(torch.zeros(9, 6), start).abs().max() == 0
