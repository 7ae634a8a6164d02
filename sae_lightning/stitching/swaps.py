"""Which latents of two SAEs correspond: connected components of the pairs with similar decoder directions."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

_BLOCK_ENTRIES = 2**24


def components(
    small: Float[Tensor, "d_small d_in"], large: Float[Tensor, "d_large d_in"], threshold: float
) -> tuple[Int64[Tensor, " d_small"], Int64[Tensor, " d_large"]]:
    """Return the component of each latent in the bipartite graph of decoder cosines above a threshold.

    Args:
        small: decoder directions of the small SAE.
        large: decoder directions of the large SAE.
        threshold: cosine above which a pair is connected.

    Returns:
        For each latent of either SAE the number of its component, -1 if it has none. Components are numbered from 0 by
        their first latent of the small SAE.

    >>> components(torch.eye(3), torch.eye(3)[[2, 0, 0]], 0.7)
    (tensor([ 0, -1,  1]), tensor([1, 0, 0]))
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    candidates = normalize(small.float(), dim=1).T
    edges, start = [], 0
    for block in normalize(large.float(), dim=1).split(max(1, _BLOCK_ENTRIES // len(small))):
        cosines = (block @ candidates).clamp(max=1)  # rounding must not put equal directions above 1
        edges.append((cosines > threshold).nonzero() + block.new_tensor([start, 0], dtype=torch.int64))
        start += len(block)
    in_large, in_small = torch.cat(edges).cpu().T
    n = len(small) + len(large)
    ends = (in_small.numpy(), (in_large + len(small)).numpy())
    graph = coo_array((torch.ones(len(in_small)).numpy(), ends), (n, n))
    labels = torch.from_numpy(connected_components(graph, directed=False)[1]).long()
    connected = torch.zeros(n, dtype=torch.bool)
    connected[in_small] = connected[in_large + len(small)] = True
    _, labels[connected] = torch.unique(labels[connected], return_inverse=True)  # scipy numbers them by first latent
    labels[~connected] = -1
    return labels[: len(small)].to(small.device), labels[len(small) :].to(small.device)
