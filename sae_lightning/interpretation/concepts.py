"""How much sets of images have in common, beside random sets of the same size from the same pool.

    purity of an attribute     share of the set that has the most common value of the attribute
    corrected                  (purity - chance) / (1 - chance), chance the mean purity of random sets
    concept_purity             the largest corrected purity of any attribute
    class_entropy              - sum_v p_v log p_v / log min(set size, number of values), of that attribute

A maximum over attributes is above 0 for random sets too, so these are scored in the same way: that is the floor.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from sae_lightning.images.base import Images

K = TypeVar("K")

_N_RANDOM_SETS = 2000

# Not a seed that somebody gives to data or SAEs.
_SEED = 0xC0_9CE7


class Concepts:
    """Scores of sets of images, by what is known of these.

    An image to which an attribute does not apply counts for none of its values, and as a value of its own in the
    entropy. An attribute that is the same everywhere in the pool is left out.

    Args:
        images: with attributes.
        numbers: of the images in the pool.
        set_size: images in a set.

    Attributes:
        attributes: names of those that vary in the pool.
        floor: purity and entropy of random sets, means; None where no attribute varies.
    """

    def __init__(self, images: Images, numbers: Int64[Tensor, " n"], set_size: int) -> None:
        self.set_size = set_size
        labels_of_pool = {name: images.labels(name)[numbers] for name in images.values}
        self._labels = {name: labels for name, labels in labels_of_pool.items() if len(labels.unique()) > 1}
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
        """Return purity and entropy of each set, and which of the attributes is its best.

        Args:
            sets: places of images in the pool.
        """
        purity = torch.stack([self._purity(name, sets) for name in self.attributes])
        best = ((purity - self._chance[:, None]) / (1 - self._chance[:, None])).max(0)
        entropy = torch.stack([self._entropy(name, sets) for name in self.attributes])
        return best.values, entropy.gather(0, best.indices[None])[0], best.indices

    def _counts(self, name: str, sets: Tensor) -> Float[Tensor, "n_sets n_values"]:
        """Count the images of each set that have each value; the first column is for those that have none."""
        labels = self._labels[name] + 1  # -1, where the attribute does not apply, becomes 0
        counts = torch.zeros(len(sets), int(labels.max()) + 1, dtype=torch.float64)
        return counts.scatter_add_(1, labels[sets], torch.ones(sets.shape, dtype=torch.float64))

    def _purity(self, name: str, sets: Tensor) -> Float[Tensor, " n_sets"]:
        return self._counts(name, sets)[:, 1:].amax(1) / self.set_size

    def _entropy(self, name: str, sets: Tensor) -> Float[Tensor, " n_sets"]:
        most = min(self.set_size, len(self._labels[name].unique()))
        shares = self._counts(name, sets) / self.set_size
        return -torch.xlogy(shares, shares).sum(1) / torch.tensor(most, dtype=torch.float64).log()


def random_sets(n: int, set_size: int) -> Int64[Tensor, "n_sets set_size"]:
    """Draw places of images in a pool of n, none twice in a set, the same each time."""
    generator = torch.Generator().manual_seed(_SEED)
    return torch.stack([torch.randperm(n, generator=generator)[:set_size] for _ in range(_N_RANDOM_SETS)])


def similarity_above_pool(
    vectors: Float[Tensor, "n d"], sets: Int64[Tensor, "n_sets set_size"]
) -> Float[Tensor, " n_sets"]:
    """Return the mean cosine of two images of each set, minus that of two images of the pool.

    0 is expected of random sets.

    Args:
        vectors: embeddings of the pool; they are centred before cosines are taken.
        sets: places of images in the pool.
    """
    unit = normalize(vectors.double() - vectors.double().mean(0), dim=1)
    return _mean_cosine(unit[sets]) - _mean_cosine(unit[None])


def _mean_cosine(unit: Float[Tensor, "n_sets n d"]) -> Float[Tensor, " n_sets"]:
    """Return the mean over all pairs of different vectors of each set.

    The squared length of the sum of the vectors counts each pair twice, and each vector with itself.
    """
    n = unit.shape[1]
    return (unit.sum(1).square().sum(1) - unit.square().sum((1, 2))) / (n * (n - 1))


def matching_weights(frequencies: Mapping[K, Float[Tensor, " n_latents"]]) -> dict[K, Float[Tensor, " n_latents"]]:
    """Return weights with which the latents of all groups have one distribution of firing frequency.

    Frequencies within a factor of 2 count as equal. A range of them that a group lacks has no weight in any; a group
    without latents is no hindrance.

    Args:
        frequencies: of the latents of each group, above 0.
    """
    bins = {group: values.double().log2().floor() for group, values in frequencies.items()}
    weights = {group: torch.zeros(len(bins_of_group), dtype=torch.float64) for group, bins_of_group in bins.items()}
    present = {group: bins_of_group for group, bins_of_group in bins.items() if len(bins_of_group)}
    if present:
        pooled = torch.cat(list(present.values()))
        for shared in set.intersection(*({*bins_of_group.tolist()} for bins_of_group in present.values())):
            for group, bins_of_group in present.items():
                own = bins_of_group == shared
                # All weights of a group in this bin sum to the number of latents that all groups have in it.
                weights[group][own] = float((pooled == shared).sum() / own.sum())
    return weights
