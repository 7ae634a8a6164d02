"""Exact selections over ranks, which exchange candidates or counts of them and never pre-activations.

Ranks that share a dictionary (`LatentMesh`) have the same rows and other latents; ranks that share a batch have other
rows. The largest of each row are among the largest of that row on each rank: values of these are gathered. The largest
of a batch are found by a histogram of the bits of all candidates, a digit of 11 bits at a time.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sae_lightning.distributed import all_gather, all_reduce_sum, rank
from sae_lightning.latent_mesh import LatentMesh

_DIGIT = 11
_BINS = 2**_DIGIT


def largest_of_ranks(values: Float[Tensor, "batch n"], k: int, mesh: LatentMesh) -> Bool[Tensor, "batch n"]:
    """Return which values are among the k largest of their row over all latents; of equal ones those of lower ranks.

    Args:
        values: of each row the k largest of this rank, or all where it has fewer.
        k: at most the number of values on all ranks.
        mesh: of the ranks.
    """
    own = values.detach().nan_to_num(torch.inf, torch.inf, -torch.inf)  # one that is nan is kept, and reaches the loss
    everyone = mesh.gather(F.pad(own, (0, k - own.shape[1]), value=-torch.inf))
    smallest = torch.topk(everyone.movedim(0, 1).flatten(1), k, dim=1, sorted=False).values.amin(1)[:, None]
    n_above, equal = (everyone > smallest).sum((0, 2)), everyone == smallest
    room = k - n_above - equal[: mesh.rank].sum((0, 2))
    is_equal = own == smallest
    return (own > smallest) | (is_equal & (is_equal.cumsum(1) <= room[:, None]))


def kth_largest_of_ranks(values: Float[Tensor, " n"], k: int, mesh: LatentMesh) -> Float[Tensor, ""]:
    """Return the k-th largest of positive values over all ranks, without a look at the device.

    Positive floats are ordered as their bits are. Each round counts the values that agree with the result so far by
    their next 11 bits: three rounds for float32, six for float64, of one reduction each.

    Args:
        values: float32 or float64 of this rank.
        k: 1 or more, and no more than there are values on all ranks.
        mesh: of the ranks that share the dictionary.
    """
    is_double = values.dtype == torch.float64
    bits = values.detach().view(torch.int64 if is_double else torch.int32).long()
    largest, left = bits.new_zeros(1), bits.new_full((1,), k)
    for shift in range(5 * _DIGIT if is_double else 2 * _DIGIT, -1, -_DIGIT):
        digits_so_far = bits >> shift
        in_play = (digits_so_far >> _DIGIT) == largest
        digits = torch.where(in_play, digits_so_far & (_BINS - 1), _BINS)
        counts = bits.new_zeros(_BINS + 1).index_add_(0, digits, torch.ones_like(digits))[:_BINS]
        counts = mesh.sum(all_reduce_sum(counts)).flip(0)  # from the largest digit down
        up_to = counts.cumsum(0)
        place = (up_to < left).sum().view(1)
        left = left - (up_to - counts)[place]
        largest = largest * _BINS + (_BINS - 1 - place)
    result = largest if is_double else largest.int()
    return result.view(values.dtype)[0]


def places_left(n: int, n_above: Int64[Tensor, ""], n_equal: Int64[Tensor, ""], mesh: LatentMesh) -> Int64[Tensor, ""]:
    """Return how many entries equal to the smallest one kept this rank may keep; lower ranks choose first.

    Args:
        n: entries kept on all ranks.
        n_above: entries of this rank that are larger than the smallest one kept.
        n_equal: entries of this rank that are equal to it.
        mesh: of the ranks that share the dictionary; those that share the batch are numbered first.
    """
    counts = mesh.gather(all_gather(torch.stack([n_above, n_equal]))).transpose(0, 1).flatten(0, 1)
    return n - counts[:, 0].sum() - counts[: rank() * mesh.size + mesh.rank, 1].sum()
