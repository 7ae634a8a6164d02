"""Dependence of the firings of synthetic features on each other: one class per kind.

A user chooses a `Dependence`, which turns the firing probabilities of one source into `Firings`. Only firings are
drawn, never a dense [n, n_features].
"""

from abc import ABC, abstractmethod

import numpy as np
from typing_extensions import override

from sae_lightning.checks import check_share, check_whole

_GUIDE = 16
"""Cells of the look-up table per feature, see `IndependentFirings`."""


class Firings(ABC):
    """Draws which features fire in which samples.

    Attributes:
        probabilities: [n_features] float64, how often each feature fires.
    """

    probabilities: np.ndarray

    @abstractmethod
    def __call__(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Draw n samples.

        Returns:
            [n_firings] int64, the sorted positions in the flattened [n, n_features] where a feature fires.
        """


class Dependence(ABC):
    """How the firings of the features within a sample depend on each other; samples are independent."""

    @abstractmethod
    def firings(self, probabilities: np.ndarray, rng: np.random.Generator) -> Firings:
        """Return the firings of features with these probabilities.

        Args:
            probabilities: [n_features] float64, from the law of the firing probabilities.
            rng: for what is drawn once for all samples.

        Raises:
            ValueError: if this dependence is impossible at these probabilities.
        """


class IndependentFirings(Firings):
    """Every feature fires independently.

    On a line, feature i of a sample has an interval of length -log(1 - p_i), one sample after the other, and a Poisson
    process of rate 1 runs along it. Feature i fires if at least one event falls into its interval; this has probability
    p_i and is independent of all other intervals. So the law is exact for any p, and the firings come out sorted by
    sample.

    Args:
        probabilities: [n_features] float64, each at least 0 and below 1.
    """

    def __init__(self, probabilities: np.ndarray) -> None:
        self.probabilities = probabilities
        self._interval_ends = np.cumsum(-np.log1p(-probabilities))
        edges = np.linspace(0, self._interval_ends[-1], _GUIDE * len(probabilities) + 1)
        self._guide = np.searchsorted(self._interval_ends, edges, side="right")
        self._guide_steps = int(np.diff(self._guide).max())

    @override
    def __call__(self, rng: np.random.Generator, n: int) -> np.ndarray:
        per_sample = self._interval_ends[-1]
        expected = n * per_sample
        # The number of events has mean and variance `expected`: six standard deviations more are nearly always enough.
        gaps = [rng.standard_exponential(int(expected + 6 * expected**0.5) + 16)]
        while (reached := sum(part.sum() for part in gaps)) < expected:  # once in a billion batches
            gaps.append(rng.standard_exponential(int(expected - reached) + 16))
        events = np.cumsum(np.concatenate(gaps) if len(gaps) > 1 else gaps[0])
        events = events[: np.searchsorted(events, expected)]
        rows = np.floor(events / per_sample)
        features = self._interval_of(events - rows * per_sample)
        firings = rows.astype(np.int64) * len(self.probabilities) + features
        return firings[np.diff(firings, prepend=-1) > 0] if len(firings) else firings

    def _interval_of(self, positions: np.ndarray) -> np.ndarray:
        """Return `searchsorted(interval_ends, positions, "right")`, several times faster.

        A table has the interval at the start of each of many equal cells; from there at most `_guide_steps` intervals
        follow within the cell.
        """
        last = len(self.probabilities) - 1
        cells = (positions * ((len(self._guide) - 1) / self._interval_ends[-1])).astype(np.int64)
        # Rounding can put an event just outside its sample.
        features = np.minimum(self._guide[np.minimum(cells, len(self._guide) - 2)], last)
        for _ in range(self._guide_steps):
            features += self._interval_ends[features] <= positions
            np.minimum(features, last, out=features)
        return features


class CorrelatedFiring(Dependence):
    """Features in random groups; those of a group fire together, each as often as its firing probability.

    Group g is on in a sample with probability pi_g = max p / correlation, with the maximum over its members,
    independently of the other groups. While it is on, its member i fires with probability p_i / pi_g, independently of
    the other members; otherwise none of them fires. Then the correlation of the firings of two members of a group is

        sqrt(p_i p_j / ((1 - p_i) (1 - p_j))) (1 - pi_g) / pi_g

    which is (correlation - p) / (1 - p) when both fire with probability p and no other member more often. Features of
    different groups are independent. A group that is on costs group_size draws.

    Args:
        group_size: features in a group, at least 1; the last group has those that remain.
        correlation: how often the most frequent member of a group fires while its group is on, above 0 and up to 1, and
            above every firing probability.
    """

    def __init__(self, group_size: int = 10, correlation: float = 0.5) -> None:
        check_whole(1, group_size=group_size)
        check_share(correlation=correlation, hint="for example 0.5")
        self.group_size, self.correlation = group_size, correlation

    @override
    def firings(self, probabilities: np.ndarray, rng: np.random.Generator) -> "GroupFirings":
        """Draw the groups."""
        if not (greatest := probabilities.max()) / self.correlation < 1:
            raise ValueError(
                f"correlation={self.correlation}, and a feature fires with probability {greatest:.4g}: expected a "
                "correlation above every firing probability, since a group is on with probability p / correlation"
            )
        order = rng.permutation(len(probabilities))
        return GroupFirings(probabilities, order, min(self.group_size, len(order)), self.correlation)


class GroupFirings(Firings):
    """The firings of `CorrelatedFiring`.

    Args:
        probabilities: [n_features] float64, each at least 0 and below the correlation.
        order: [n_features] int64, the features, one group after the other.
        group_size: features in a group; the last group has those that remain.
        correlation: how often the most frequent member of a group fires while its group is on.

    Attributes:
        groups: [n_features] int64, the group of each feature.
    """

    def __init__(self, probabilities: np.ndarray, order: np.ndarray, group_size: int, correlation: float) -> None:
        n_features = len(order)
        self.probabilities = probabilities
        self.groups = np.argsort(order) // group_size
        empty = -n_features % group_size  # places that the last group lacks: they get probability 0
        self._members = np.pad(order, (0, empty)).reshape(-1, group_size)
        members = np.pad(probabilities[order], (0, empty)).reshape(-1, group_size)
        switch = members.max(1) / correlation  # how often each group is on
        self._switches = IndependentFirings(switch)
        self._when_on = members / np.where(switch > 0, switch, 1)[:, None]

    @override
    def __call__(self, rng: np.random.Generator, n: int) -> np.ndarray:
        n_groups, size = self._members.shape
        rows, groups = np.divmod(self._switches(rng, n), n_groups)
        fires = np.flatnonzero(rng.random((len(groups), size)) < np.take(self._when_on, groups, axis=0))
        on, places = np.divmod(fires, size)
        firings = rows[on] * len(self.probabilities) + self._members[groups[on], places]
        firings.sort()
        return firings


class HierarchicalFiring(Dependence):
    """Features in a forest; a feature fires only when its parent does.

    The first n_roots features are the roots, independent of each other and with the drawn probabilities. Feature i
    after them has parent (i - n_roots) // branching. A child of a parent that fires does so with `child_probability`,
    independently of its siblings; so a feature of depth d fires with child_probability^d times the probability of its
    root.

    With the defaults 3200 features have 160 roots, 640 children and 2400 grandchildren, and the mean number of firings
    in a sample is 1080 times the mean probability of a root: 20 with ConstantProbability(0.0185).

    Args:
        branching: children of a feature, at least 1; the last parent has those that remain.
        n_roots: features without a parent, at least 1 and up to n_features.
        child_probability: how often a child fires when its parent does, above 0 and up to 1.
    """

    def __init__(self, branching: int = 4, n_roots: int = 160, child_probability: float = 0.5) -> None:
        check_whole(1, branching=branching, n_roots=n_roots)
        check_share(child_probability=child_probability, hint="for example 0.5")
        self.branching, self.n_roots, self.child_probability = branching, n_roots, child_probability

    @override
    def firings(self, probabilities: np.ndarray, rng: np.random.Generator) -> "ForestFirings":
        """Return the firings; the probabilities of features that are no roots are not used, and nothing is drawn."""
        n_features = len(probabilities)
        if self.n_roots > n_features:
            raise ValueError(f"n_roots={self.n_roots}, n_features={n_features}: expected n_roots up to n_features")
        branching = min(self.branching, n_features)
        return ForestFirings(probabilities[: self.n_roots], n_features, branching, self.child_probability)


class ForestFirings(Firings):
    """The firings of `HierarchicalFiring` for given roots.

    Args:
        roots: [n_roots] float64, how often each root fires.
        n_features: roots and their descendants, at least n_roots.
        branching: children of a feature.
        child_probability: how often a child fires when its parent does.
    """

    def __init__(self, roots: np.ndarray, n_features: int, branching: int, child_probability: float) -> None:
        n_roots = start = len(roots)
        self._n_roots, self._branching, self._child_probability = n_roots, branching, child_probability
        self._n_parents = -(-(n_features - n_roots) // branching)
        self.probabilities = np.concatenate([roots, np.zeros(n_features - n_roots)])
        while start < n_features:  # level by level: the children of all features before start are before the next start
            children = np.arange(start, min(n_roots + start * branching, n_features))
            parents = (children - n_roots) // branching
            self.probabilities[children] = child_probability * self.probabilities[parents]
            start += len(children)
        self._roots = IndependentFirings(roots)

    @override
    def __call__(self, rng: np.random.Generator, n: int) -> np.ndarray:
        n_features = len(self.probabilities)
        rows, features = np.divmod(self._roots(rng, n), self._n_roots)
        firings = [rows * n_features + features]
        while len(features):  # level by level, the children of the features that fired
            parent = features < self._n_parents
            first = self._n_roots + features[parent] * self._branching
            fires = np.flatnonzero(rng.random((len(first), self._branching)) < self._child_probability)
            on, siblings = np.divmod(fires, self._branching)
            features, rows = first[on] + siblings, rows[parent][on]
            exists = features < n_features  # the last parent may have fewer children
            features, rows = features[exists], rows[exists]
            firings.append(rows * n_features + features)
        return np.sort(np.concatenate(firings))
