"""Exact selections: which entries of the pre-activations become the code, without sorting all of them.

Every selection reduces to the entries that reach a limit. The maxima of buckets of latents take one vectorised pass
over a block of pre-activations; only the few buckets whose maximum reaches the limit are searched. Where a block is a
screen (see `PreActs`), its bound is subtracted from the limit, and the entries that reach it are computed again in
float32 before anything is decided.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from sae_lightning.code import Code, FullCode
from sae_lightning.distributed import all_reduce_min, all_reduce_sum, world_size
from sae_lightning.kernels.over_ranks import kth_largest_of_ranks, largest_of_ranks, places_left
from sae_lightning.kernels.pre_acts import PreActs
from sae_lightning.kernels.sparse import dense_share, sampled_times
from sae_lightning.latent_mesh import ALONE, LatentMesh

BUCKET_SIZES = (16, 8, 5, 4, 3, 2)
"""Latents in a bucket: the first size that divides d_sae and leaves enough buckets."""
MIN_BUCKETS = 64
"""Fewest buckets of a row; narrower pre-activations are searched whole."""

Finder = Callable[[Tensor, Tensor | None], Tensor]
"""Return positions in a flattened block, given the block and, for a screen, its bound."""


def entries_above(pre_acts: PreActs, threshold: float, full: bool = False) -> Code:
    """Return all entries strictly above one threshold.

    Args:
        pre_acts: pre-activations [batch, d_sae].
        threshold: the same for all latents.
        full: return all entries, above the threshold or not, where so many are above it that dense products are
            quicker (more than `dense_share` of the first block).
    """

    def find(block: Tensor, bound: Tensor | None) -> Tensor:
        if bound is None:
            return _positions(block, _bucket_maxima(block), torch.gt, threshold)
        limit = (threshold - bound).to(block.dtype)
        if (limit > 0).all():
            block, limit = _bits(block), _bits(limit)
        # Rounding keeps the order, so an entry above the limit reaches the rounded limit once it is itself rounded.
        return _positions(block, _bucket_maxima(block), torch.ge, limit)

    try:
        code = _candidates(pre_acts, find, most=dense_share(pre_acts.device, pre_acts.dtype) if full else 1.0)
    except _TooMany:
        return FullCode(pre_acts.dense())
    return code.where(code.values > threshold) if pre_acts.screened else code


def top_k_per_row(pre_acts: PreActs, k: int, mesh: LatentMesh = ALONE) -> Code:
    """Return `relu` of the k largest entries of each row; those that are not positive are explicit zeros.

    Args:
        pre_acts: pre-activations of the latents of this rank.
        k: entries of each row, of all ranks together.
        mesh: of the ranks that have the other latents.
    """
    code = largest_code(pre_acts, k, mesh)
    return code.with_values(code.values.relu())


def largest_code(pre_acts: PreActs, k: int, mesh: LatentMesh = ALONE) -> Code:
    """Return the k largest entries of each row, negative ones included; the arguments are those of `top_k_per_row`."""
    values, indices = largest_per_row(pre_acts, min(k, pre_acts.d_sae))
    if mesh.size == 1:
        return Code.from_rows(values, indices, pre_acts.d_sae)
    rows, places = largest_of_ranks(values, k, mesh).nonzero(as_tuple=True)
    return Code.from_entries(values[rows, places], rows, indices[rows, places], len(values), pre_acts.d_sae)


def largest_per_row(pre_acts: PreActs, k: int) -> tuple[Float[Tensor, "batch k"], Int64[Tensor, "batch k"]]:
    """Return values and latents of the k largest entries of each row, in any order, negative ones included."""
    if pre_acts.device.type != "cpu":  # no step waits for the device: the number of entries is known beforehand
        parts = [_top_k_of_block(block, k) for _, block, _ in pre_acts.blocks()]
        values, indices = (torch.cat(part) for part in zip(*parts, strict=True))
    else:
        values, indices = _top_k_by_limits(pre_acts, k)
    return values.to(pre_acts.x.dtype), indices


def top_k_of_batch(pre_acts: PreActs, k: int, guess: float = 0.0, mesh: LatentMesh = ALONE) -> Code:
    """Return the `k * batch` largest positive entries of the whole batch, over all ranks together.

    Args:
        pre_acts: pre-activations of this rank.
        k: entries per row on average, of all latents.
        guess: a value that is likely below the smallest entry to be kept, such as that of the last batch, the same on
            all ranks; 0 if there is none. A good guess saves time; it never changes the result.
        mesh: of the ranks that have the other latents.

    Returns:
        The entries kept on this rank; fewer than `k * batch` where fewer are positive. Of entries equal to the smallest
        one kept, those of lower ranks and rows come first.
    """
    n = k * pre_acts.batch_size  # the ranks of a mesh have the same rows
    if world_size() > 1:
        n = int(all_reduce_sum(torch.tensor(n, device=pre_acts.device)))
    # From the most promising limit to the one that cannot fail; the next is tried where too few entries lie above.
    limits = (lambda: guess, lambda: _estimate_smallest(pre_acts, k, mesh), lambda: 0.0)
    for limit in (limit() for limit in limits[guess <= 0 :]):
        code = entries_above(pre_acts, max(limit, 0.0))
        n_above_limit = _count_of_ranks(code.nnz, pre_acts.device, mesh)
        if n_above_limit >= n or limit <= 0:
            break
    if n_above_limit <= n:
        return code
    is_alone = world_size() == mesh.size == 1
    smallest = largest(code.values[None], n)[0].min() if is_alone else kth_largest_of_ranks(code.values, n, mesh)
    above, equal = code.values > smallest, code.values == smallest
    # Entries equal to the smallest one fill the places that are left, and the lower ranks choose first.
    room = places_left(n, above.sum(), equal.sum(), mesh)
    return code.where(above | (equal & (equal.cumsum(0) <= room)))


def largest(matrix: Float[Tensor, "n m"], k: int) -> tuple[Float[Tensor, "n k"], Int64[Tensor, "n k"]]:
    """Return values and positions of the k largest entries of each row, in any order."""
    if matrix.device.type == "cpu":
        keep = matrix >= _kth_largest(matrix, k)[:, None]
        if int(keep.sum()) == matrix.shape[0] * k:  # no ties
            return matrix[keep].view(-1, k), keep.nonzero()[:, 1].view(-1, k)
    values, indices = torch.topk(matrix, k, dim=1, sorted=False)
    return values, indices


# By limits
# --------------------------------------------------------------------------------------------------------------------


def _bucket_maxima(block: Tensor) -> Tensor:
    """Return the maxima [rows, buckets] over buckets of latents; latent j is in bucket j % n_buckets.

    Strided buckets make the reduction run over contiguous memory, four times as fast as buckets of neighbours.
    """
    n, d_sae = block.shape
    size = next((size for size in BUCKET_SIZES if d_sae % size == 0 and d_sae >= size * MIN_BUCKETS), 1)
    return block if size == 1 else block.view(n, size, d_sae // size).amax(1)


def _enough_maxima(block: Tensor, k: int) -> Tensor:
    """Return the bucket maxima, or the block itself where it has fewer than k buckets."""
    maxima = _bucket_maxima(block)
    return block if maxima.shape[1] < k else maxima


def _bits(numbers: Tensor) -> Tensor:
    """Return bfloat16 numbers as 16-bit integers, which the CPU compares several times faster.

    Positive floats are ordered as their bits are. The others become integers that are not positive (the sign bit is
    theirs too), in another order among themselves: good for limits above zero.
    """
    return numbers.view(torch.int16)


def _positions(
    block: Tensor, maxima: Tensor, reaches: Callable[[Tensor, Tensor | float], Tensor], limit: Tensor | float
) -> Tensor:
    """Return the positions, in order of rows, where the flattened block reaches the limit.

    Args:
        block: [rows, d_sae] entries to search.
        maxima: [rows, buckets] their `_bucket_maxima`, or the block itself.
        reaches: `torch.gt` or `torch.ge`.
        limit: one number, or [rows, 1].
    """
    d_sae, n_buckets = block.shape[1], maxima.shape[1]
    hits = reaches(maxima, limit).view(-1).nonzero()[:, 0]
    if n_buckets == d_sae:
        return hits
    if hits.numel() > maxima.numel() // 4:  # gathering so many buckets takes longer than comparing everything
        return reaches(block, limit).view(-1).nonzero()[:, 0]
    # Position row * n_buckets + bucket of the maxima is position row * d_sae + bucket of the block, where the bucket
    # starts; its other latents are n_buckets apart.
    rows = torch.div(hits, n_buckets, rounding_mode="floor")
    first = hits + rows * (d_sae - n_buckets)
    in_buckets = first[:, None] + torch.arange(0, d_sae, n_buckets, device=block.device)
    return in_buckets[reaches(block.view(-1).take(in_buckets), limit[rows] if isinstance(limit, Tensor) else limit)]


class _TooMany(Exception):
    """Raised where the first block has more entries than the caller accepts."""


def _candidates(pre_acts: PreActs, find: Finder, most: float = 1.0) -> Code:
    """Return the entries that `find` finds in all blocks; after a screen with values computed in float32.

    Raises:
        _TooMany: if they are more than the share `most` of the first block.
    """
    batch, d_sae = pre_acts.batch_size, pre_acts.d_sae
    by_block = [torch.empty(0, dtype=torch.int64, device=pre_acts.device)]
    values = [pre_acts.x.new_empty(0)]
    for first, block, bound in pre_acts.blocks():
        positions, n_entries = find(block, bound), block.numel()
        if bound is None:
            values.append(block.view(-1).take(positions).to(pre_acts.x.dtype))
        del block
        if first == 0 and positions.numel() > most * n_entries:
            raise _TooMany
        if bound is not None and positions.numel() * 64 > n_entries:
            pre_acts.screened = False  # their exact values would cost more than float32 products of all
            return _candidates(pre_acts, find, most)
        by_block.append(positions + first * d_sae)
    flat = torch.cat(by_block)
    if not pre_acts.screened:
        return Code.from_flat(torch.cat(values), flat, batch, d_sae)
    code = Code.from_flat(pre_acts.x.new_empty(flat.shape), flat, batch, d_sae)
    return code.with_values(sampled_times(pre_acts.x, pre_acts.by_latent, code) + pre_acts.b_enc[code.indices])


def _top_k_by_limits(pre_acts: PreActs, k: int) -> tuple[Tensor, Tensor]:
    """Return values and latents of the k largest entries of each row, from those that reach a limit for each row.

    The k-th largest bucket maximum of a row is such a limit: at least k entries reach it, and so do the k largest. A
    `torch.topk` of the maxima is as quick, but what a screen needs is a limit and not a fixed number of entries.
    """

    def find(block: Tensor, bound: Tensor | None) -> Tensor:
        if bound is None:
            maxima = _enough_maxima(block, k)
            return _positions(block, maxima, torch.ge, _kth_largest(maxima, k)[:, None])
        # Of a screen, k entries or more reach kth after rounding to bfloat16, which moves them by at most 2^-8 of it
        # (doubled here), so their float32 values reach kth less that and less the bound. The k largest float32 values
        # do too, and each may be lower by the bound in the screen: hence twice the bound.
        for numbers in (_bits(block), block):  # the faster comparison first, which needs limits above zero
            maxima = _enough_maxima(numbers, k)
            kth = _kth_largest(maxima, k)[:, None].view(block.dtype).float()
            limit = (kth - 2**-7 * kth.abs() - 2 * bound).to(block.dtype)
            if (limit > 0).all():
                return _positions(_bits(block), maxima.view(torch.int16), torch.ge, _bits(limit))
        return _positions(block, maxima, torch.ge, limit)

    code = _candidates(pre_acts, find)
    counts = code.offsets.diff()
    # Plain rows go through topk whole: those with NaN, which reaches no limit, and those with so many candidates (equal
    # entries, as a rule) that the table would be wide for all.
    plain = (counts < k) | (counts > 16 * k + 64)
    width = int(counts.masked_fill(plain, k).max()) if plain.numel() else k
    places = torch.arange(code.nnz) - code.offsets[code.rows]
    table = code.values.new_full((code.batch_size, width), -torch.inf)
    if plain.any():
        normal = ~plain[code.rows]
        table[code.rows[normal], places[normal]] = code.values[normal]
    else:
        table[code.rows, places] = code.values
    chosen, places = largest(table, k)
    entries = code.offsets[:-1, None] + places
    if not plain.any():
        return chosen, code.indices[entries]
    indices = code.indices.new_zeros(entries.shape)
    indices[~plain] = code.indices[entries[~plain]]
    chosen[plain], indices[plain] = torch.topk(pre_acts.exact(plain.nonzero()[:, 0]), k, dim=1, sorted=False)
    return chosen, indices


def _kth_largest(matrix: Shaped[Tensor, "n m"], k: int) -> Shaped[Tensor, " n"]:
    """Return the k-th largest entry of each row, on a CPU."""
    m = matrix.shape[1]
    # NumPy has no bfloat16; float32 holds both 16-bit floats without rounding.
    wide = matrix.float() if matrix.dtype in (torch.bfloat16, torch.float16) else matrix
    return torch.from_numpy(np.partition(wide.numpy(), m - k, axis=1)[:, m - k].copy()).to(matrix.dtype)


# On a GPU, and from a sample
# --------------------------------------------------------------------------------------------------------------------


def _top_k_of_block(block: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return values and latents of the k largest entries of each row of a block, in any order."""
    d_sae = block.shape[1]
    maxima = _bucket_maxima(block)
    if 2 * k > maxima.shape[1]:
        return torch.topk(block, k, dim=-1, sorted=False)
    # The k largest entries lie in the k buckets with the largest maxima.
    buckets = torch.topk(maxima, k, dim=-1, sorted=False).indices
    first = torch.arange(0, d_sae, maxima.shape[1], device=block.device)
    candidates = (buckets[:, None, :] + first[:, None]).flatten(1)
    values, chosen = torch.topk(block.gather(1, candidates), k, dim=-1, sorted=False)
    return values, candidates.gather(1, chosen)


def _estimate_smallest(pre_acts: PreActs, k: int, mesh: LatentMesh) -> float:
    """Return a value somewhat below the smallest entry to be kept, from a sample of rows; the same on all ranks."""
    n_rows = min(pre_acts.batch_size, max(1, 2**21 // pre_acts.d_sae))
    estimate = 0.0
    if n_rows:
        rows = torch.arange(n_rows, device=pre_acts.device) * pre_acts.batch_size // n_rows
        sample = pre_acts.exact(rows).view(-1)
        n = min(-(-k // mesh.size) * n_rows, sample.numel())
        estimate = 0.9 * float(torch.topk(sample, n, sorted=False).values.min())
    return float(mesh.min(all_reduce_min(torch.tensor(estimate, device=pre_acts.device))))


def _count_of_ranks(n: int, device: torch.device, mesh: LatentMesh) -> int:
    """Return the sum of a count over all ranks."""
    if world_size() == mesh.size == 1:
        return n
    return int(mesh.sum(all_reduce_sum(torch.tensor(n, device=device))))
