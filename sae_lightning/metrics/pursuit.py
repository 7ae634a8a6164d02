"""Orthogonal matching pursuit: codes of k entries that need no training."""

import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.code import Code

_OMP_BLOCK = 512
"""Samples whose dense codes are held at a time."""
# Where a sample is explained by fewer than k entries, the pursuit goes on to explain the float32 rounding of its sum.
_LEAST_RELATIVE_COEFFICIENT = 1e-5


def keep_largest_per_sample(code: Code, k: int) -> Code:
    """Keep the k largest entries of each row; all entries where there are fewer."""
    order = code.values.argsort(descending=True)
    order = order[code.rows[order].argsort(stable=True)]  # by row, the largest first
    keep = torch.empty(code.nnz, dtype=torch.bool)
    keep[order] = torch.arange(code.nnz) - code.offsets[code.rows] < k
    return code.where(keep)


def pursue(
    x: Float[Tensor, "n d_in"], dictionary: Float[Tensor, "n_directions d_in"], k: int
) -> tuple[Float[Tensor, "n d_in"], Code]:
    """Reconstruct samples by orthogonal matching pursuit with k directions to a sample, computed in float64.

    Pati, Rezaiifar, Krishnaprasad 1993.

    Args:
        x: samples.
        dictionary: unit rows.
        k: directions to a sample, at most d_in; fewer where they explain the sample.

    Returns:
        x_hat and the code, whose entries may have either sign.
    """
    dictionary = dictionary.double()
    x_hats, codes = [], []
    for block in x.double().split(_OMP_BLOCK):
        dense = _pursue_block(block, dictionary, k)
        x_hats.append(dense @ dictionary)
        codes.append(Code.from_dense(dense))
    return torch.cat(x_hats), Code.join(codes)


def _pursue_block(x: Tensor, dictionary: Tensor, k: int) -> Tensor:
    from sklearn.linear_model import orthogonal_mp

    with warnings.catch_warnings():
        # Said of a sample that fewer than k directions explain (of x = 0 none). No case of trouble: k <= d_in.
        warnings.filterwarnings("ignore", "Orthogonal matching pursuit ended prematurely", RuntimeWarning)
        # With a Gram matrix it would be copied for every sample, which takes 20 times as long.
        coefficients = orthogonal_mp(dictionary.T.numpy(), x.T.numpy(), n_nonzero_coefs=k, precompute=False)
    dense = torch.from_numpy(coefficients).reshape(len(dictionary), len(x)).T
    magnitudes = dense.abs()
    return dense.where(magnitudes > _LEAST_RELATIVE_COEFFICIENT * magnitudes.amax(1, keepdim=True), 0)
