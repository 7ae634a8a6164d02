"""What each latent of a larger SAE does to the error of a smaller one, when it is added alone.

With the residual r = x - x_hat of the small SAE, the latent a_j of the large one and its direction w_j,

    dMSE_j = E ||r - a_j w_j||^2 - E ||r||^2 = E[a_j^2] ||w_j||^2 - 2 E[a_j <w_j, r>]

summed over dimensions (derived from Leask et al. 2025, arXiv 2502.04878). A latent is *novel* where that is below 0 and
a *reconstruction* latent where it is above, by an interval over blocks of neighbouring samples; undecided where the
interval holds 0, dead where the latent never fires. A latent that is too large or too small would lower the error at
another scale, at the best one by max(0, E[a_j <w_j, r>])^2 / (E[a_j^2] ||w_j||^2).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_lightning.code import Code
from sae_lightning.kernels.sparse import sampled_times
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.verdict.statistics import LEVEL

CLASSES = ("novel", "reconstruction", "undecided", "dead")
NOVEL, RECONSTRUCTION, UNDECIDED, DEAD = range(len(CLASSES))
BLOCK = 256
"""Neighbouring samples that are one unit of the intervals: tokens of a document are not independent."""


@dataclass(frozen=True)
class Insertions:
    """What inserting each latent alone does to the squared error of a sample.

    Args:
        change: dMSE; below 0 the error falls.
        low: lower end of its interval.
        high: upper end.
        gain: how much the error would fall at the latent's best scale, 0 or more.
        firings: number of samples on which it is active.
        n_samples: number of samples.
    """

    change: Float[Tensor, " d_sae"]
    low: Float[Tensor, " d_sae"]
    high: Float[Tensor, " d_sae"]
    gain: Float[Tensor, " d_sae"]
    firings: Int64[Tensor, " d_sae"]
    n_samples: int

    @property
    def labels(self) -> Int64[Tensor, " d_sae"]:
        """Class of each latent, a position in `CLASSES`."""
        labels = torch.full_like(self.firings, UNDECIDED)
        labels[self.high < 0] = NOVEL
        labels[self.low > 0] = RECONSTRUCTION
        labels[self.firings == 0] = DEAD
        return labels


class InsertionSums:
    """Sums over blocks from which `Insertions` follow, a few numbers for each latent.

    Args:
        W_dec: decoder directions of the large SAE.
        block: samples in a block.
    """

    def __init__(self, W_dec: Float[Tensor, "d_sae d_in"], block: int = BLOCK) -> None:
        self.W_dec, self.block = W_dec, block
        self.squared_norms = W_dec.double().square().sum(1)
        # Sums of changes, squared changes, changes times block length, squared latents, and latents times projections.
        self._sums = torch.zeros(5, len(W_dec), dtype=torch.float64, device=W_dec.device)
        self._firings = torch.zeros(len(W_dec), dtype=torch.int64, device=W_dec.device)
        self._lengths: list[int] = []

    def update(self, code: Code, residual: Float[Tensor, "batch d_in"]) -> None:
        """Add a batch of neighbouring samples.

        Args:
            code: latents of the large SAE, in the units of the activations.
            residual: activations minus the reconstruction of the small SAE.
        """
        squares = code.values.double().square() * code.of_latents(self.squared_norms)
        along = code.values.double() * sampled_times(residual, self.W_dec, code).double()
        lengths = [len(rows) for rows in residual.split(self.block)]
        changes = squares.new_zeros(len(lengths) * code.d_sae)
        changes.index_add_(0, code.rows // self.block * code.d_sae + code.indices, squares - 2 * along)
        changes = changes.view(-1, code.d_sae)
        sizes = changes.new_tensor(lengths)[:, None]
        terms = (changes, changes.square(), changes * sizes)
        self._sums[:3] += torch.stack([term.sum(0) for term in terms])
        self._sums[3] += code.sum_by_latent(squares)
        self._sums[4] += code.sum_by_latent(along)
        self._firings += code.firing_counts()
        self._lengths += lengths

    def compute(self) -> Insertions:
        """Return means and intervals; needs two blocks or more."""
        from scipy.special import stdtrit

        total, squared_changes, times_length, squares, along = self._sums
        lengths = torch.tensor(self._lengths, dtype=torch.float64)
        n, n_blocks = float(lengths.sum()), len(lengths)
        change = total / n
        # `verdict.statistics.linearised` from sums: squared deviations of (change of a block - mean * its length).
        spread = squared_changes - 2 * change * times_length + change.square() * float(lengths.square().sum())
        error = (spread.clamp_min(0) * n_blocks / (n_blocks - 1)).sqrt() / n
        half = float(stdtrit(n_blocks - 1, (1 + LEVEL) / 2)) * error
        gain = torch.where(squares > 0, along.clamp_min(0).square() / squares, 0) / n
        return Insertions(change, change - half, change + half, gain, self._firings, int(n))


def in_raw_units(sae: SparseAutoencoder, x: Float[Tensor, "batch d_in"]) -> Code:
    """Return latents whose products with decoder directions are in the units of x, whatever the SAE's input scale."""
    code = sae.encode(x)
    return code.with_values(code.values / sae.input_scale)
