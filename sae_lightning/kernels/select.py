"""Which entries of the pre-activations become the code: exact selections without a full sort."""

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.code import Code
from sae_lightning.distributed import all_gather_int, all_reduce_sum, world_size

BUCKETS = 16


def entries_above(pre_acts: Float[Tensor, "batch d_sae"], threshold: float) -> Code:
    """All entries strictly above one threshold."""
    batch, d_sae = pre_acts.shape
    flat = pre_acts.reshape(-1)
    if d_sae % BUCKETS or d_sae < 64 * BUCKETS:
        chosen = (flat > threshold).nonzero()[:, 0]
        return Code.from_flat(flat[chosen], chosen, batch, d_sae)
    # A strided bucket maximum is one vectorised pass; only the few buckets that exceed the threshold are looked into.
    width = d_sae // BUCKETS
    hits = (pre_acts.view(batch, BUCKETS, width).amax(1) > threshold).reshape(-1).nonzero()[:, 0]
    rows = torch.div(hits, width, rounding_mode="floor")
    first = rows * d_sae + (hits - rows * width)
    candidates = first[:, None] + torch.arange(0, d_sae, width, device=flat.device)
    chosen = candidates[flat[candidates] > threshold]
    return Code.from_flat(flat[chosen], chosen, batch, d_sae)


def top_k_per_row(pre_acts: Float[Tensor, "batch d_sae"], k: int) -> Code:
    """The k largest entries of each row, as `relu` leaves them: those that are not positive are explicit zeros."""
    batch, d_sae = pre_acts.shape
    if d_sae % BUCKETS or d_sae < 64 * BUCKETS or 2 * k * BUCKETS > d_sae:
        values, indices = torch.topk(pre_acts, k, dim=-1, sorted=False)
        return Code.from_rows(values.relu(), indices, d_sae)
    # The k largest entries lie in the k buckets with the largest maxima.
    width = d_sae // BUCKETS
    buckets = torch.topk(pre_acts.view(batch, BUCKETS, width).amax(1), k, dim=-1, sorted=False).indices
    candidates = (buckets[:, None, :] + torch.arange(0, d_sae, width, device=pre_acts.device)[:, None]).flatten(1)
    values, chosen = torch.topk(pre_acts.gather(1, candidates), k, dim=-1, sorted=False)
    return Code.from_rows(values.relu(), candidates.gather(1, chosen), d_sae)


def top_k_of_batch(pre_acts: Float[Tensor, "batch d_sae"], k: int, guess: float = 0.0) -> Code:
    """The `k * batch` largest positive entries of the whole batch, over all ranks together.

    Args:
        pre_acts: pre-activations of this rank.
        k: entries per row on average.
        guess: a value thought to lie below the smallest entry to be kept, such as that of the last batch. A good guess
            saves time; it never changes the result.

    Returns:
        The entries kept on this rank; fewer than `k * batch` where fewer are positive. Of entries equal to the smallest
        one kept, those of lower ranks and rows come first.
    """
    n = int(all_reduce_sum(torch.tensor(k * pre_acts.shape[0], device=pre_acts.device)))
    code = entries_above(pre_acts, max(guess, 0.0))
    if guess > 0 and _global_count(code.nnz, pre_acts) < n:
        code = entries_above(pre_acts, 0.0)
    if _global_count(code.nnz, pre_acts) <= n:
        return code
    smallest = _kth_largest(code.values, n)
    above, equal = code.values > smallest, code.values == smallest
    n_above, n_equal = int(above.sum()), int(equal.sum())
    room = n - sum(all_gather_int(n_above)) - sum(all_gather_int(n_equal, lower_ranks_only=True))
    keep = above | (equal & (equal.cumsum(0) <= room))
    flat = (code.rows * code.d_sae + code.indices)[keep]
    return Code.from_flat(code.values[keep], flat, code.batch_size, code.d_sae)


def _global_count(n: int, like: Tensor) -> int:
    return int(all_reduce_sum(torch.tensor(n, device=like.device)))


def _kth_largest(values: Float[Tensor, " n"], k: int) -> Tensor:
    """k-th largest of positive values over all ranks."""
    if world_size() == 1:
        return torch.topk(values, k, sorted=False).values.min()
    # Positive floats are ordered as their bits are: bisect on the bits with one count per round.
    bits = values.float().view(torch.int32)
    low, high = 0, 0x7F800000  # count(bits >= low) >= k > count(bits >= high)
    while high - low > 1:
        middle = (low + high) // 2
        if _global_count(int((bits >= middle).sum()), values) >= k:
            low = middle
        else:
            high = middle
    return torch.tensor(low, dtype=torch.int32, device=values.device).view(torch.float32).to(values.dtype)
