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
    """What has been found for each sample.

    Args:
        indices: [n, k] directions.
        values: [n, k] their coefficients, 0 or more; a place with 0 is empty.
        residual: [n, d_in] what they leave of each sample.
    """

    indices: Int64[Tensor, "n k"]
    values: Float[Tensor, "n k"]
    residual: Float[Tensor, "n d_in"]

    @classmethod
    def nothing(cls, x: Float[Tensor, "n d_in"], k: int) -> "Pursued":
        """Return k empty places for each sample."""
        return cls(torch.zeros(len(x), k, dtype=torch.int64, device=x.device), x.new_zeros(len(x), k), x.clone())

    def n_entries(self) -> Int64[Tensor, " n"]:
        """Return the number of entries of each sample."""
        return (self.values > 0).sum(1)

    def take(self, rows: Tensor | slice) -> "Pursued":
        """Return what was found for some of the samples."""
        return Pursued(self.indices[rows], self.values[rows], self.residual[rows])

    def put(self, rows: Tensor, other: "Pursued") -> None:
        """Replace what was found for some of the samples, in place."""
        for name in ("indices", "values", "residual"):
            getattr(self, name)[rows] = getattr(other, name)

    def widened(self, k: int) -> "Pursued":
        """Return the same with k places for each sample."""
        wide = Pursued.nothing(self.residual, k)
        wide.indices[:, : self.indices.shape[1]] = self.indices
        wide.values[:, : self.values.shape[1]] = self.values
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
        rounds: products of all residuals with the whole dictionary; with k of them no sample has to do with candidates
            that were named before its last direction was taken.
    """
    found = Pursued.nothing(x, k)
    rounds = min(rounds, k)
    for number in range(1, rounds + 1):
        last = number == rounds
        found = add_entries(x, dictionary, found, -(-k * number // rounds), -(-k // rounds), solve=last)
    for _ in range(_REPAIRS if k else 0):
        rows = (found.n_entries() < k).nonzero()[:, 0]
        if not len(rows):
            break
        found.put(rows, add_entries(x[rows], dictionary, found.take(rows), k, -(-k // rounds)))
    return found


def add_entries(
    x: Float[Tensor, "n d_in"],
    dictionary: Float[Tensor, "d_sae d_in"],
    found: Pursued,
    k: int,
    n_new: int = 1,
    solve: bool = True,
) -> Pursued:
    """Return what was found, filled up to k entries for each sample by one product with the whole dictionary.

    Args:
        x: samples, as for `pursue_nonnegative`.
        dictionary: unit rows.
        found: for the same samples, with k places or more.
        k: entries that each sample is to have.
        n_new: entries that it is to get at a time; it gets up to twice as many where it has fewer than the others.
        solve: solve for the coefficients, instead of steps towards the solution.
    """
    products = PreActs(found.residual, dictionary.T, dictionary.new_zeros(len(dictionary)))
    n_candidates = min(len(dictionary), CANDIDATES * n_new)
    fits, candidates = largest_per_row(products, n_candidates)
    usable = fits > _EXPLAINED * torch.linalg.vector_norm(x, dim=1, keepdim=True)
    most = _BLOCK_ENTRIES if x.device.type == "cpu" else _DEVICE_BLOCK_ENTRIES
    n_rows = max(1, most // ((found.indices.shape[1] + n_candidates) * x.shape[1]))
    blocks = []
    for start in range(0, len(x), n_rows):
        rows = slice(start, start + n_rows)
        block = found.take(rows)
        taken = (candidates[rows, :, None] == block.indices[:, None]) & (block.values > 0)[:, None]
        pool = torch.cat([block.indices, candidates[rows]], 1)
        new = torch.cat([torch.zeros_like(block.indices, dtype=torch.bool), usable[rows] & ~taken.any(2)], 1)
        values = torch.cat([block.values, block.values.new_zeros(candidates[rows].shape)], 1)
        blocks.append(_choose(x[rows], dictionary[pool], pool, values, new, k, n_new, found.indices.shape[1], solve))
    if not blocks:
        return found
    return Pursued(
        *(torch.cat([getattr(block, name) for block in blocks]) for name in ("indices", "values", "residual"))
    )


def _choose(
    x: Float[Tensor, "n d_in"],
    directions: Float[Tensor, "n pool d_in"],
    pool: Int64[Tensor, "n pool"],
    values: Float[Tensor, "n pool"],
    new: Bool[Tensor, "n pool"],
    k: int,
    n_new: int,
    width: int,
    solve: bool,
) -> Pursued:
    """Take up to 2 n_new of the new directions of each sample's pool, and fit the coefficients of all that it has."""
    gram = directions @ directions.mT
    fit = (directions @ x[:, :, None])[:, :, 0]
    gradient = fit - (gram @ values[:, :, None])[:, :, 0]
    has, rows = values > 0, torch.arange(len(x), device=x.device)
    for _ in range(2 * n_new):
        best, place = torch.where(new & ~has, gradient, 0.0).max(1)
        takes = (best > 0) & (has.sum(1) < k)
        if not takes.any():
            break
        best = best * takes
        values[rows, place] += best
        gradient -= gram[rows, place] * best[:, None]
        has[rows, place] |= takes
        _descend(values, gradient, gram, has, _STEPS_PER_ENTRY)
    order = has.int().argsort(dim=1, descending=True, stable=True)[:, :width]
    has, indices, directions = has.gather(1, order), pool.gather(1, order), directions[rows[:, None], order]
    values, gradient, fit = (tensor.gather(1, order) for tensor in (values, gradient, fit))
    gram = gram[rows[:, None, None], order[:, :, None], order[:, None, :]]
    _descend(values, gradient, gram, has, _STEPS_PER_ROUND)
    if solve:
        values = _better(_solve(gram, fit, has), values, gram, fit)
    return Pursued(indices, values, x - (values[:, None] @ directions)[:, 0])


def _descend(values: Tensor, gradient: Tensor, gram: Tensor, has: Tensor, steps: int) -> None:
    """Move, in place, one coefficient of each sample at a time: the one that moves furthest, and not below zero."""
    rows = torch.arange(len(values), device=values.device)
    for _ in range(steps):
        moves = torch.where(has, torch.maximum(gradient, -values), 0.0)
        place = moves.abs().argmax(1)
        move = moves[rows, place]
        values[rows, place] += move
        gradient -= gram[rows, place] * move[:, None]


def _solve(
    gram: Float[Tensor, "n k k"], fit: Float[Tensor, "n k"], has: Bool[Tensor, "n k"], passes: int = 4
) -> Float[Tensor, "n k"]:
    """Return least-squares coefficients, taking out those that come out negative and solving again."""
    values = torch.zeros_like(fit)
    for _ in range(passes):
        inside = has[:, :, None] & has[:, None]
        # An empty place gets a 1 on the diagonal and nothing beside it, so that its coefficient is 0.
        system = torch.where(inside, gram, 0.0) + torch.diag_embed((~has).to(gram.dtype) + _JITTER)
        factor, _ = torch.linalg.cholesky_ex(system)
        values = torch.cholesky_solve((fit * has)[:, :, None], factor)[:, :, 0] * has
        if not (values < 0).any():
            break
        has = has & (values > 0)
    return values.clamp_min(0)


def _better(solved: Tensor, values: Tensor, gram: Tensor, fit: Tensor) -> Tensor:
    """Return for each sample the coefficients with the smaller error: a Gram matrix may be singular to rounding."""

    def error(coefficients: Tensor) -> Tensor:
        return (coefficients * ((gram @ coefficients[:, :, None])[:, :, 0] / 2 - fit)).sum(1)

    return torch.where((error(solved) <= error(values))[:, None], solved, values)
