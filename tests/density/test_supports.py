import pytest
import torch
from torch.nn.functional import normalize

from sae_lightning.density.seeds import agreement, chance
from sae_lightning.density.supports import supports
from sae_lightning.saes import TopK

D_IN, K = 32, 3


def sae_of(directions, k=K):
    sae = TopK(directions.shape[1], k=k, d_sae=len(directions))
    sae.initialise(0)
    with torch.no_grad():
        sae.W_dec.copy_(normalize(directions, dim=1))
        sae.W_enc.copy_(sae.W_dec.T)
    return sae.eval()


@pytest.fixture
def random():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def x(random):
    """Sums of K axes, far from each other in size."""
    chosen = torch.rand(40, D_IN, generator=random).topk(K, 1).indices
    return torch.zeros(40, D_IN).scatter_(1, chosen, 1 + torch.rand(40, K, generator=random))


def test_an_orthogonal_dictionary_has_one_code_for_each_signal(x, random):
    found = supports(sae_of(torch.eye(D_IN)), x, random)
    assert found["coherence"] < 1e-6
    assert found["k"] == K <= found["unique_up_to"]
    assert found["same_code"] == found["jaccard"] == 1
    assert found["other_code"] == 0
    assert found["jaccard_chance"] < 0.3
    assert found["explained_variance"]["encoder"] == pytest.approx(1)
    assert found["explained_variance"]["pursuit"] == pytest.approx(1)
    assert found["noise"]["0.01"] == {"encoder": 1, "pursuit": 1}


def test_directions_that_occur_twice_have_other_codes(x, random):
    found = supports(sae_of(torch.eye(D_IN).repeat(2, 1)), x, random)
    assert found["coherence"] == pytest.approx(1)
    assert found["unique_up_to"] == 0
    assert found["same_code"] + found["other_code"] == 1
    assert found["other_code"] > 0.5


def test_nothing_is_pursued_above_half_the_dimensions(random):
    k = D_IN // 2 + 1
    dictionary = torch.randn(128, D_IN, generator=random)
    found = supports(sae_of(dictionary, k), torch.randn(40, D_IN, generator=random), random)
    assert set(found) == {"coherence", "unique_up_to", "k", "d_in"}
    assert found["k"] == k


def test_the_same_latents_in_another_order_agree(random):
    one = torch.randn(50, 16, generator=random)
    found = agreement([one, 3 * one[torch.randperm(50, generator=random)]])
    for name in ("matched_cosine", "best_cosine", "shared", "subspace_overlap"):
        assert found[name] == pytest.approx(1, abs=1e-5), name
    assert agreement([one, -one])["shared"] < 0.1  # signed


def test_random_dictionaries_agree_by_chance(random):
    one, other, third = torch.randn(3, 300, 24, generator=random)
    found, floor = agreement([one, other, third]), chance([one, other], random)
    assert found["matched_cosine"] == pytest.approx(floor["matched_cosine"], abs=0.01)
    assert found["shared"] < 0.1
    assert len(found["matched"]) == 300


def test_chance_knows_that_directions_lean_one_way(random):
    one, other = torch.randn(2, 300, 24, generator=random) + 1.0
    floor = chance([one, other], random)["matched_cosine"]
    assert agreement([one, other])["matched_cosine"] == pytest.approx(floor, abs=0.02)
    assert floor > agreement(list(torch.randn(2, 300, 24, generator=random)))["matched_cosine"] + 0.1
