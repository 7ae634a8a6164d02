"""Codes of k non-negative entries by matching pursuit: the best that an SAE with a given decoder could hope for.

Latents are never negative, so neither are these coefficients: non-negative orthogonal matching pursuit (Bruckstein,
Elad, Zibulevsky 2008, "On the uniqueness of nonnegative sparse solutions"), with several directions between two
products of all residuals with the whole dictionary, as in generalised OMP (Wang, Kwon, Shim 2012, arXiv 1111.6664).
That product costs by far the most.

Departure from both: generalised OMP takes the several directions that fit the residual best, and these resemble each
other. Here the product only names candidates, eight for each direction to be taken. Among them and the directions taken
before, directions are taken one at a time, and coefficients follow by coordinate descent on the small Gram matrix of
each sample. The last rounds solve for the coefficients.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_lightning.code import Code
from sae_lightning.kernels import PreActs, largest_per_row

ROUNDS = 8
"""Products with the whole dictionary: within half a point of explained variance of one for each direction at k = 32."""
CANDIDATES = 8
"""Directions that are looked at for each one that a round takes."""
_STEPS_PER_ENTRY, _STEPS_PER_ROUND = 2, 8
"""Steps of coordinate descent after each new entry, and after all those of a round."""
_LARGEST_GRAM = 6144
"""Most directions whose products with each other are all computed: 150 MB."""
_REPAIRS = 2
"""Further rounds for samples whose solved coefficients left places empty."""
_BLOCK_ENTRIES, _DEVICE_BLOCK_ENTRIES = 2**24, 2**27
"""Numbers in the directions of a block of samples that are held at a time, on a CPU and elsewhere."""
_EXPLAINED = 1e-5
"""A residual is taken for rounding where no direction has more than this share of the norm of its sample."""
_JITTER = 1e-6
"""What is added to the diagonal of a Gram matrix of unit rows, two of which may be the same."""


@dataclass(frozen=True)
class Pursued:
    """The entries chosen so far for each sample.

    Args:
        indices: [n, k] directions.
        values: [n, k] their coefficients, 0 or more; a place with 0 is empty.
        fits: [n, k] products of the directions with the sample.
        residual: [n, d_in] what they leave of each sample.
    """

    indices: Int64[Tensor, "n k"]
    values: Float[Tensor, "n k"]
    fits: Float[Tensor, "n k"]
    residual: Float[Tensor, "n d_in"]

    @classmethod
    def nothing(cls, x: Float[Tensor, "n d_in"], k: int) -> "Pursued":
        """Return k empty places for each sample."""
        indices = torch.zeros(len(x), k, dtype=torch.int64, device=x.device)
        return cls(indices, x.new_zeros(len(x), k), x.new_zeros(len(x), k), x.clone())

    def n_entries(self) -> Int64[Tensor, " n"]:
        """Return the number of entries of each sample."""
        return (self.values > 0).sum(1)

    def take(self, rows: Tensor | slice) -> "Pursued":
        """Return the entries of some of the samples."""
        return Pursued(self.indices[rows], self.values[rows], self.fits[rows], self.residual[rows])

    def put(self, rows: Tensor, other: "Pursued") -> None:
        """Replace the entries of some of the samples, in place."""
        for name in ("indices", "values", "fits", "residual"):
            getattr(self, name)[rows] = getattr(other, name)

    def widened(self, k: int) -> "Pursued":
        """Return the same with k places for each sample."""
        wide = Pursued.nothing(self.residual, k)
        for name in ("indices", "values", "fits"):
            getattr(wide, name)[:, : self.values.shape[1]] = getattr(self, name)
        return wide

    def code(self, d_sae: int) -> Code:
        """Return the entries as a code."""
        entries = self.values > 0
        rows = entries.nonzero()[:, 0]
        return Code.from_entries(self.values[entries], rows, self.indices[entries], len(self.values), d_sae)


def pursue_nonnegative(
    x: Float[Tensor, "n d_in"], dictionary: Float[Tensor, "d_sae d_in"], k: int, rounds: int = ROUNDS
) -> Pursued:
    """Reconstruct samples as non-negative combinations of k directions each.

    Args:
        x: samples, float32, about the point that all zeros reconstruct.
        dictionary: unit rows, on the device of x.
        k: directions to a sample, at most d_in; fewer where they explain it, or where none is left that points its way.
        rounds: products of all residuals with the whole dictionary; with k of them every direction is the one that
            fits best of all.
    """
    entries = Pursued.nothing(x, k)
    rounds = min(rounds, k)
    gram = gram_of(dictionary, len(x)) if k else None
    for number in range(1, rounds + 1):
        last = number == rounds
        entries = add_entries(x, dictionary, entries, -(-k * number // rounds), -(-k // rounds), solve=last, gram=gram)
    for _ in range(_REPAIRS if k else 0):
        rows = (entries.n_entries() < k).nonzero()[:, 0]
        if not len(rows):
            break
        entries.put(rows, add_entries(x[rows], dictionary, entries.take(rows), k, -(-k // rounds), gram=gram))
    return entries


def gram_of(dictionary: Float[Tensor, "d_sae d_in"], n: int) -> Float[Tensor, "d_sae d_sae"] | None:
    """Return the products of all directions with each other, where n samples are enough to be worth it; else None."""
    worth_it = len(dictionary) <= min(_LARGEST_GRAM, 8 * n)
    return dictionary @ dictionary.T if worth_it else None


def add_entries(
    x: Float[Tensor, "n d_in"],
    dictionary: Float[Tensor, "d_sae d_in"],
    entries: Pursued,
    k: int,
    n_new: int = 1,
    solve: bool = True,
    gram: Float[Tensor, "d_sae d_sae"] | None = None,
) -> Pursued:
    """Return the entries, filled up to k for each sample by one product with the whole dictionary.

    Args:
        x: samples, as for `pursue_nonnegative`.
        dictionary: unit rows.
        entries: for the same samples, with k places or more.
        k: entries that each sample is to have.
        n_new: entries that it is to get at a time; it gets up to twice as many where it has fewer than the others.
        solve: solve for the coefficients, instead of steps towards the solution.
        gram: what `gram_of` returned; without it the products are computed for each sample.
    """
    if not len(x):
        return entries
    products = PreActs(entries.residual, dictionary.T, dictionary.new_zeros(len(dictionary)))
    n_candidates = min(len(dictionary), CANDIDATES * n_new)
    gains, candidates = largest_per_row(products, n_candidates)
    usable = gains > _EXPLAINED * torch.linalg.vector_norm(x, dim=1, keepdim=True)
    most = _BLOCK_ENTRIES if x.device.type == "cpu" else _DEVICE_BLOCK_ENTRIES
    pool_size = entries.indices.shape[1] + n_candidates
    n_rows = max(1, most // (pool_size * (x.shape[1] if gram is None else pool_size)))
    blocks = []
    for start in range(0, len(x), n_rows):
        rows = slice(start, start + n_rows)
        pool = _Pool.of(entries.take(rows), candidates[rows], gains[rows], usable[rows], dictionary, gram)
        blocks.append(pool.choose(k, n_new, entries.indices.shape[1], solve))
    indices, values, fits = (torch.cat(part) for part in zip(*blocks, strict=True))
    x_hat = F.embedding_bag(indices, dictionary, mode="sum", per_sample_weights=values)
    return Pursued(indices, values, fits, x - x_hat)


@dataclass
class _Pool:
    """Directions of a block of samples, taken or candidates.

    Args:
        indices: [n, pool] directions.
        values: [n, pool] coefficients of those that are taken.
        gains: [n, pool] products of the directions with the residual; minus the gradient of half the squared error.
        new: [n, pool] whether a direction may be taken and is not yet.
        gram: [n, pool, pool] products of the directions with each other.
    """

    indices: Int64[Tensor, "n pool"]
    values: Float[Tensor, "n pool"]
    gains: Float[Tensor, "n pool"]
    new: Bool[Tensor, "n pool"]
    gram: Float[Tensor, "n pool pool"]

    @classmethod
    def of(
        cls,
        entries: Pursued,
        candidates: Int64[Tensor, "n candidates"],
        gains: Float[Tensor, "n candidates"],
        usable: Bool[Tensor, "n candidates"],
        dictionary: Float[Tensor, "d_sae d_in"],
        gram: Float[Tensor, "d_sae d_sae"] | None,
    ) -> "_Pool":
        """Return the pool of the entries, with the candidates behind them."""
        taken = (candidates[:, :, None] == entries.indices[:, None]) & (entries.values > 0)[:, None]
        indices = torch.cat([entries.indices, candidates], 1)
        values = torch.cat([entries.values, torch.zeros_like(gains)], 1)
        new = torch.cat([torch.zeros_like(entries.indices, dtype=torch.bool), usable & ~taken.any(2)], 1)
        if gram is None:
            directions = dictionary[indices]
            own_gram = directions @ directions.mT
        else:
            places = indices[:, :, None] * len(gram) + indices[:, None]
            # On a CPU five times as fast as indexing the matrix with both.
            own_gram = gram.view(-1).index_select(0, places.view(-1)).view(places.shape)
        k = entries.indices.shape[1]
        of_taken = entries.fits - (own_gram[:, :k, :k] @ entries.values[:, :, None])[:, :, 0]
        return cls(indices, values, torch.cat([of_taken, gains], 1), new, own_gram)

    def choose(self, k: int, n_new: int, width: int, solve: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Take up to 2 n_new new directions for each sample, and fit all coefficients.

        Returns:
            Directions, coefficients and products with the samples, [n, width] each.
        """
        has, rows = self.values > 0, torch.arange(len(self.values), device=self.values.device)
        for _ in range(2 * n_new):
            best, place = torch.where(self.new & ~has, self.gains, 0.0).max(1)
            takes = (best > 0) & (has.sum(1) < k)
            if not takes.any():
                break
            self._move(place, best * takes)
            has[rows, place] |= takes
            self._descend(has, _STEPS_PER_ENTRY)
        self._descend(has, _STEPS_PER_ROUND)
        fits = self.gains + (self.gram @ self.values[:, :, None])[:, :, 0]
        order = has.int().argsort(dim=1, descending=True, stable=True)[:, :width]
        indices, values, fits = (tensor.gather(1, order) for tensor in (self.indices, self.values, fits))
        if solve:
            gram = self.gram[rows[:, None, None], order[:, :, None], order[:, None]]
            values = _better(_solve(gram, fits, has.gather(1, order)), values, gram, fits)
        return indices, values, fits

    def _move(self, place: Int64[Tensor, " n"], by: Float[Tensor, " n"]) -> None:
        """Change one coefficient of each sample, and the gains with it."""
        self.values.scatter_add_(1, place[:, None], by[:, None])
        at = place[:, None, None].expand(-1, 1, self.gram.shape[2])
        self.gains.addcmul_(self.gram.gather(1, at)[:, 0], by[:, None], value=-1)

    def _descend(self, has: Bool[Tensor, "n pool"], steps: int) -> None:
        """Move one coefficient of each sample at a time: the one that moves furthest, and not below zero."""
        for _ in range(steps):
            moves = torch.where(has, torch.maximum(self.gains, -self.values), 0.0)
            place = moves.abs().argmax(1)
            self._move(place, moves.gather(1, place[:, None])[:, 0])


def _solve(
    gram: Float[Tensor, "n k k"], fits: Float[Tensor, "n k"], has: Bool[Tensor, "n k"], passes: int = 4
) -> Float[Tensor, "n k"]:
    """Return least-squares coefficients, taking out those that come out negative and solving again."""
    values = torch.zeros_like(fits)
    for _ in range(passes):
        inside = has[:, :, None] & has[:, None]
        # An empty place gets a 1 on the diagonal and nothing beside it, so that its coefficient is 0.
        system = torch.where(inside, gram, 0.0) + torch.diag_embed((~has).to(gram.dtype) + _JITTER)
        factor, _ = torch.linalg.cholesky_ex(system)
        values = torch.cholesky_solve((fits * has)[:, :, None], factor)[:, :, 0] * has
        if not (values < 0).any():
            break
        has = has & (values > 0)
    return values.clamp_min(0)


def _better(solved: Tensor, values: Tensor, gram: Tensor, fits: Tensor) -> Tensor:
    """Return for each sample the coefficients with the smaller error: a Gram matrix may be singular to rounding."""

    def error(coefficients: Tensor) -> Tensor:
        return (coefficients * ((gram @ coefficients[:, :, None])[:, :, 0] / 2 - fits)).sum(1)

    return torch.where((error(solved) <= error(values))[:, None], solved, values)
