"""Measures of density, of how evenly a vector's entries share its energy; and what coherence implies for sparse codes.

    participation ratio   (sum a^2)^2 / (N sum a^4)                       one-hot 1/N, Gaussian 1/3, constant 1
    Hoyer                 (sqrt(N) - L1/L2) / (sqrt(N) - 1)               constant 0, Gaussian 0.22 (N=100), one-hot 1
    excess kurtosis       mean (a - mean)^4 / variance^2 - 3              Gaussian 0; higher is sparser
    Gini                  2 sum i |a|_(i) / (N sum |a|) - (N + 1) / N     constant 0, one-hot 1 - 1/N
    top mass              share of sum |a| in the largest 1 % of |a|      constant 0.01, one-hot 1

The second is from Hoyer 2004, "Non-negative matrix factorization with sparseness constraints"; Hurley and Rickard 2009,
arXiv 0811.4706, compare all measures of this kind. None changes when the vector is scaled, and all change when it is
rotated: they describe a vector in a basis.

Each measure takes rows [n, d] and returns [n] float64; a row of zeros gives nan.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae_lightning.code import Code


def participation_ratio(x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Return the share of coordinates that would hold the energy if they held equal parts, in [1/d, 1]; Gaussian 1/3.

    >>> participation_ratio(torch.tensor([[0.0, 3.0, 0.0, 0.0], [1.0, -1.0, 1.0, 1.0]]))
    tensor([0.2500, 1.0000], dtype=torch.float64)
    """
    energy = x.double().square()
    return energy.sum(1).square() / (x.shape[1] * energy.square().sum(1))


def hoyer(x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Return Hoyer's sparseness of each row, in [0, 1]; higher is sparser.

    >>> hoyer(torch.tensor([[0.0, 3.0, 0.0, 0.0], [1.0, -1.0, 1.0, 1.0]]))
    tensor([1., 0.], dtype=torch.float64)
    """
    root = math.sqrt(x.shape[1])
    return (root - x.double().abs().sum(1) / x.double().norm(dim=1)) / (root - 1)


def excess_kurtosis(x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Return the kurtosis over the coordinates of each row, about their mean, less the 3 of a Gaussian; at least -2.

    >>> excess_kurtosis(torch.tensor([[1.0, -1.0, 1.0, -1.0]]))
    tensor([-2.], dtype=torch.float64)
    """
    deviation = x.double() - x.double().mean(1, keepdim=True)
    square = deviation.square()
    return square.square().mean(1) / square.mean(1).square() - 3


def gini(x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Return the Gini index of the absolute entries of each row, in [0, 1 - 1/d]; higher is sparser, Gaussian 0.41.

    >>> gini(torch.tensor([[0.0, 3.0, 0.0, 0.0], [1.0, -1.0, 1.0, 1.0]]))
    tensor([0.7500, 0.0000], dtype=torch.float64)
    """
    d = x.shape[1]
    ascending = x.double().abs().sort(1).values
    ranks = torch.arange(1, d + 1, device=x.device, dtype=torch.float64)
    return 2 * (ascending @ ranks) / (d * ascending.sum(1)) - (d + 1) / d


def top_mass(x: Float[Tensor, "n d"], share: float = 0.01) -> Float[Tensor, " n"]:
    """Return the part of the sum of absolute entries that the largest `share` of them have, in [share, 1].

    The largest entries are `share * d`, rounded up.

    >>> top_mass(torch.tensor([[1.0, -3.0, 0.0, 0.0]]), 0.25)
    tensor([0.7500], dtype=torch.float64)
    """
    magnitude = x.double().abs()
    return magnitude.topk(math.ceil(share * x.shape[1]), 1).values.sum(1) / magnitude.sum(1)


def share_above(x: Float[Tensor, "n d"], rms_factor: float) -> Float[Tensor, " n"]:
    """Return the share of entries above `rms_factor` times the row's root mean square; Gaussian 0.92 at 0.1.

    >>> share_above(torch.tensor([[2.0, 0.1, 0.0, -1.0]]), 0.5)
    tensor([0.5000], dtype=torch.float64)
    """
    rms = x.double().square().mean(1, keepdim=True).sqrt()
    share = (x.double().abs() > rms_factor * rms).double().mean(1)
    return torch.where(rms[:, 0] > 0, share, torch.nan)


def energy_curve(x: Float[Tensor, "n d"], shares: tuple[float, ...]) -> Float[Tensor, " n_shares"]:
    """Return the part of a row's energy in its largest entries, for each share of the coordinates; a mean over rows.

    >>> energy_curve(torch.tensor([[1.0, -3.0, 0.0, 0.0]]), (0.25, 0.5))
    tensor([0.9000, 1.0000], dtype=torch.float64)
    """
    energy = x.double().square().sort(1, descending=True).values.cumsum(1)
    last = torch.tensor([math.ceil(share * x.shape[1]) - 1 for share in shares], device=x.device)
    return (energy[:, last] / energy[:, -1:]).mean(0)


def rms_normalise(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Scale rows to norm sqrt(d), in float32: RMSNorm without its gain; a row of zeros stays.

    >>> rms_normalise(torch.tensor([[3.0, 4.0]]))
    tensor([[0.8485, 1.1314]])
    """
    x = x.float()
    return x / x.norm(dim=1, keepdim=True).clamp_min(1e-30) * math.sqrt(x.shape[1])


def massive_dimensions(x: Float[Tensor, "n d"], factor: float) -> Bool[Tensor, " d"]:
    """Return which dimensions have a mean square over the rows above `factor` times the median of all dimensions.

    After Sun et al. 2024, "Massive Activations in Large Language Models" (arXiv 2402.17762), who define massive
    activations one by one; here a whole dimension is massive or not.

    >>> massive_dimensions(torch.tensor([[1.0, 20.0, 1.0], [1.0, 20.0, -1.0]]), factor=25.0)
    tensor([False,  True, False])
    """
    square = x.double().square().mean(0)
    return square > factor * square.median()


def unique_up_to(coherence: float) -> int:
    """Return the largest K for which every code of K entries is the sparsest one: K < (1 + 1 / coherence) / 2.

    Donoho and Elad 2003 and Gribonval and Nielsen 2003: below the bound a code is unique, and matching pursuit finds
    it. The bound is a guarantee for the worst signal; most codes far above it are unique too.

    Args:
        coherence: largest absolute cosine of two directions, in [0, 1]; values below 1e-9 count as 1e-9.

    >>> unique_up_to(0.2), unique_up_to(0.5), unique_up_to(1.0)
    (2, 1, 0)
    """
    return math.ceil((1 + 1 / max(coherence, 1e-9)) / 2 - 1e-9) - 1


def support_jaccard(code: Code, other: Code) -> Float[Tensor, " batch"]:
    """Return the number of latents that fire in both codes over that in either, by row; 1 where none fires in either.

    >>> one = Code.from_dense(torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]]))
    >>> two = Code.from_dense(torch.tensor([[0.0, 9.0, 1.0], [0.0, 0.0, 0.0]]))
    >>> support_jaccard(one, two)
    tensor([0.3333, 1.0000], dtype=torch.float64)
    """
    flat = [(each.rows * each.d_sae + each.indices)[each.values != 0] for each in (code, other)]
    both = flat[0][torch.isin(flat[0], flat[1])]
    n_both = torch.bincount(both.div(code.d_sae, rounding_mode="floor"), minlength=code.batch_size).double()
    n_either = code.l0() + other.l0() - n_both
    return torch.where(n_either > 0, n_both / n_either, 1.0)


def subspace_overlap(
    one: Float[Tensor, "n_one d_in"], other: Float[Tensor, "n_other d_in"], r: int
) -> Float[Tensor, ""]:
    """Return the mean squared cosine of the principal angles between the r strongest directions of two matrices.

    In [0, 1], 1 for equal spans; r / d_in by chance. The strongest directions are right singular vectors.

    >>> subspace_overlap(torch.diag(torch.tensor([3.0, 2.0, 1.0])), torch.diag(torch.tensor([3.0, 1.0, 2.0])), 2)
    tensor(0.5000, dtype=torch.float64)
    """
    spans = [torch.linalg.eigh(rows.double().T @ rows.double()).eigenvectors[:, -r:] for rows in (one, other)]
    return (spans[0].T @ spans[1]).square().sum() / r
