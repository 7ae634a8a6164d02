"""How much sets of pictures have in common, beside random sets of the same size from the same pool.

    purity of an attribute     share of the set that has the most common value of the attribute
    corrected                  (purity - chance) / (1 - chance), chance the mean purity of random sets
    concept_purity             the largest corrected purity of any attribute
    class_entropy              - sum_v p_v log p_v / log min(set size, number of values), of that attribute

A maximum over attributes is above 0 for random sets too, so these are scored in the same way: that is the floor.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from sae_lightning.images import Images

_N_RANDOM_SETS = 2000

# Not a seed that somebody gives to data or SAEs.
_SEED = 0xC0_9CE7


class Concepts:
    """Scores sets of pictures by what is known of them.

    A picture to which an attribute does not apply counts for none of its values, and as a value of its own in the
    entropy. An attribute that is the same everywhere in the pool is left out.

    Args:
        images: with attributes.
        numbers: of the pictures in the pool.
        set_size: pictures in a set.

    Attributes:
        attributes: names of those that vary in the pool.
        floor: purity and entropy of random sets, means.
    """

    def __init__(self, images: Images, numbers: Int64[Tensor, " n"], set_size: int) -> None:
        self.set_size = set_size
        every = {name: images.labels(name)[numbers] for name in images.values}
        self._labels = {name: labels for name, labels in every.items() if len(labels.unique()) > 1}
        self.attributes: Sequence[str] = list(self._labels)
        self.floor: tuple[float, float] | None = None
        if self.attributes:
            random = random_sets(len(numbers), set_size)
            self._chance = torch.stack([self._purity(name, random) for name in self.attributes]).mean(1)
            purity, entropy, _ = self.score(random)
            self.floor = float(purity.mean()), float(entropy.mean())

    def score(
        self, sets: Int64[Tensor, "n_sets set_size"]
    ) -> tuple[Float[Tensor, " n_sets"], Float[Tensor, " n_sets"], Int64[Tensor, " n_sets"]]:
        """Purity and entropy of each set, and which of the attributes is its best.

        Args:
            sets: places of pictures in the pool.
        """
        purity = torch.stack([self._purity(name, sets) for name in self.attributes])
        best = ((purity - self._chance[:, None]) / (1 - self._chance[:, None])).max(0)
        entropy = torch.stack([self._entropy(name, sets) for name in self.attributes])
        return best.values, entropy.gather(0, best.indices[None])[0], best.indices

    def _counts(self, name: str, sets: Tensor) -> Float[Tensor, "n_sets n_values"]:
        """How many pictures of each set have each value; the first column is for those that have none."""
        labels = self._labels[name] + 1
        counts = torch.zeros(len(sets), int(labels.max()) + 1, dtype=torch.float64)
        return counts.scatter_add_(1, labels[sets], torch.ones(sets.shape, dtype=torch.float64))

    def _purity(self, name: str, sets: Tensor) -> Float[Tensor, " n_sets"]:
        return self._counts(name, sets)[:, 1:].amax(1) / self.set_size

    def _entropy(self, name: str, sets: Tensor) -> Float[Tensor, " n_sets"]:
        most = min(self.set_size, len(self._labels[name].unique()))
        shares = self._counts(name, sets) / self.set_size
        return -torch.xlogy(shares, shares).sum(1) / torch.tensor(most, dtype=torch.float64).log()


def random_sets(n: int, set_size: int) -> Int64[Tensor, "n_sets set_size"]:
    """Places of pictures in a pool of n, none twice in a set, the same each time."""
    generator = torch.Generator().manual_seed(_SEED)
    return torch.stack([torch.randperm(n, generator=generator)[:set_size] for _ in range(_N_RANDOM_SETS)])


def similarity_above_pool(
    vectors: Float[Tensor, "n d"], sets: Int64[Tensor, "n_sets set_size"]
) -> Float[Tensor, " n_sets"]:
    """Mean cosine of two pictures of each set, minus that of two pictures of the pool; 0 is expected of random sets.

    Args:
        vectors: embeddings of the pool; they are centred before cosines are taken.
        sets: places of pictures in the pool.
    """
    unit = normalize(vectors.double() - vectors.double().mean(0), dim=1)
    return _mean_cosine(unit[sets]) - _mean_cosine(unit[None])


def _mean_cosine(unit: Float[Tensor, "n_sets n d"]) -> Float[Tensor, " n_sets"]:
    """Over all pairs of two: the squared length of the sum counts each twice, and each vector with itself."""
    n = unit.shape[1]
    return (unit.sum(1).square().sum(1) - unit.square().sum((1, 2))) / (n * (n - 1))


def matching_weights(frequencies: Mapping[str, Float[Tensor, " n_latents"]]) -> dict[str, Float[Tensor, " n_latents"]]:
    """Weights with which the latents of all groups have one distribution of firing frequency.

    Frequencies within a factor of 2 count as equal. A range of them that a group lacks has no weight in any; a group
    without latents is no hindrance.

    Args:
        frequencies: of the latents of each group, above 0.
    """
    bins = {name: of.double().log2().floor() for name, of in frequencies.items()}
    weights = {name: torch.zeros(len(of), dtype=torch.float64) for name, of in bins.items()}
    present = {name: of for name, of in bins.items() if len(of)}
    if present:
        pooled = torch.cat(list(present.values()))
        for frequency in set.intersection(*({*of.tolist()} for of in present.values())):
            for name, of in present.items():
                own = of == frequency
                weights[name][own] = float((pooled == frequency).sum() / own.sum())
    return weights
