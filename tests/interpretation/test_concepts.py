from itertools import combinations

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from sae_lightning.images import Images
from sae_lightning.interpretation.concepts import Concepts, matching_weights, random_sets, similarity_above_pool

N = 240


class Labelled(Images):
    """Four colours in turn, two sizes in halves, a sort that one image in six has, and what never varies."""

    def __init__(self, attributes=("colour", "size", "sort", "always")):
        super().__init__(2)
        numbers = torch.arange(2 * N)
        labels = {
            "colour": numbers % 4,
            "size": (numbers >= N).long(),
            "sort": torch.where(numbers % 6 == 0, numbers // 6 % 5, -1),
            "always": torch.zeros(2 * N, dtype=torch.int64),
        }
        self._labels = {name: labels[name] for name in attributes}
        self.values = {name: [str(i) for i in range(int(of.max()) + 1)] for name, of in self._labels.items()}
        self.prompts = {}

    def __len__(self):
        return 2 * N

    def image(self, number):
        raise NotImplementedError

    def name(self, number):
        return str(number)

    def labels(self, attribute):
        return self._labels[attribute]


@pytest.fixture(scope="module")
def concepts():
    return Concepts(Labelled(), torch.arange(2 * N), 4)


def test_a_set_of_one_colour_is_pure(concepts):
    purity, entropy, best = concepts.score(torch.tensor([[0 + 1, 5, 241, 321]]))
    assert (float(purity), float(entropy), concepts.attributes[best]) == (1.0, 0.0, "colour")


def test_purity_is_corrected_for_chance_and_the_best_attribute_is_taken(concepts):
    # Three of four have one size; colours are all different. Chance of a random set of four, by counting:
    size = np.array([max(sum(of), 4 - sum(of)) / 4 for of in np.ndindex(2, 2, 2, 2)]).mean()
    purity, entropy, best = concepts.score(torch.tensor([[1, 2, 3, 300]]))
    assert concepts.attributes[best] == "size"
    assert float(purity) == pytest.approx((0.75 - size) / (1 - size), abs=0.03)
    assert float(entropy) == pytest.approx(-(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25)))


def test_what_an_attribute_does_not_apply_to_is_no_common_value(concepts):
    of_sort = Concepts(Labelled(["sort"]), torch.arange(2 * N), 4)
    none, _, _ = of_sort.score(torch.tensor([[1, 2, 3, 5]]))
    same, entropy, _ = of_sort.score(torch.tensor([[0, 30, 60, 90]]))
    half, entropy_of_half, _ = of_sort.score(torch.tensor([[0, 30, 1, 2]]))
    assert float(none) < 0 < float(half) < float(same) == 1
    assert float(entropy) == 0
    assert float(entropy_of_half) == pytest.approx(0.5)  # one bit of the two that four images can have


def test_the_floor_is_above_zero_since_the_best_of_several_attributes_is_taken(concepts):
    one = Concepts(Labelled(["colour"]), torch.arange(2 * N), 4)
    assert one.floor[0] == pytest.approx(0, abs=1e-9)
    assert concepts.floor[0] > 0.1
    generator = torch.Generator().manual_seed(1)
    fresh = torch.stack([torch.randperm(2 * N, generator=generator)[:4] for _ in range(3000)])
    purity, entropy, _ = concepts.score(fresh)
    assert float(purity.mean()) == pytest.approx(concepts.floor[0], abs=0.03)
    assert float(entropy.mean()) == pytest.approx(concepts.floor[1], abs=0.03)


def test_an_attribute_that_does_not_vary_is_left_out(concepts):
    assert list(concepts.attributes) == ["colour", "size", "sort"]
    assert Concepts(Labelled(["always"]), torch.arange(2 * N), 4).floor is None
    assert Concepts(Labelled([]), torch.arange(2 * N), 4).floor is None


def test_the_pool_decides_what_places_mean():
    shifted = Concepts(Labelled(["colour"]), torch.arange(1, 2 * N), 4)
    assert float(shifted.score(torch.tensor([[0, 4, 8, 12]]))[0]) == 1
    assert (
        float(Concepts(Labelled(["colour"]), torch.arange(100).repeat(2), 4).score(torch.tensor([[3, 7, 11, 103]]))[0])
        == 1
    )


def test_random_sets_are_the_same_each_time_and_have_no_image_twice():
    sets = random_sets(9, 8)
    assert torch.equal(sets, random_sets(9, 8))
    assert all(len(set(of.tolist())) == 8 for of in sets)


def test_similarity_is_the_mean_over_pairs():
    vectors = torch.randn(12, 5, generator=torch.Generator().manual_seed(0)) + 3
    sets = torch.tensor([[0, 3, 5], [1, 2, 11]])
    centred = (vectors - vectors.mean(0)).double()

    def mean(places):
        return torch.stack([cosine_similarity(centred[i], centred[j], 0) for i, j in combinations(places, 2)]).mean()

    expected = torch.stack([mean(of) for of in sets.tolist()]) - mean(range(12))
    torch.testing.assert_close(similarity_above_pool(vectors, sets), expected, rtol=1e-5, atol=1e-6)


def test_random_sets_are_no_more_alike_than_the_pool():
    vectors = torch.randn(200, 6, generator=torch.Generator().manual_seed(0)) + 1
    assert float(similarity_above_pool(vectors, random_sets(200, 5)).mean()) == pytest.approx(0, abs=0.01)


def test_weights_give_all_groups_one_distribution_of_frequency():
    frequencies = {
        "often": torch.tensor([0.3, 0.3, 0.3, 0.01, 0.9]),
        "rarely": torch.tensor([0.01, 0.011, 0.012, 0.26]),
        "dead": torch.zeros(0),
    }
    weights = matching_weights(frequencies)
    assert weights["often"][4] == 0, "no other group has so frequent ones"
    share = {
        name: float(weights[name][frequencies[name] > 0.1].sum() / weights[name].sum()) for name in ("often", "rarely")
    }
    assert share["often"] == pytest.approx(share["rarely"]) == pytest.approx(0.5)
    assert weights["dead"].numel() == 0


def test_groups_that_share_no_frequency_have_no_weight():
    weights = matching_weights({"often": torch.tensor([0.5]), "rarely": torch.tensor([0.001, 0.002])})
    assert all((of == 0).all() for of in weights.values())
