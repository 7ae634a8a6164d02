"""Metrics of sparsity: how many latents fire, how often, and how many never do.

A latent fires on a sample where it is not zero. A frequency below 1 / n_samples cannot be seen, so the share of dead
latents means nothing without the number of samples: `compute` returns both.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from sae_lightning.code import Code
from sae_lightning.distributed import group_of


class Sparsity(Metric):
    """Sparsity of latents: `l0`, `dead_fraction`, `firing_frequency` and `n_samples`, over all samples.

    `update` takes a `Code` of [batch, d_sae]; `compute` returns a dict of float64 tensors:

    - `l0`: mean number of latents that fire on a sample, in [0, d_sae]; lower is sparser, at a price in reconstruction.
    - `dead_fraction`: share of latents that fired on no sample, in [0, 1], lower is better.
    - `firing_frequency` [d_sae]: share of samples on which each latent fires, in [0, 1]; sums to l0.
    - `n_samples`: number of samples.

    Without samples l0 and frequencies are nan, and all latents are dead.

    Args:
        d_sae: number of latents.

    >>> metric = Sparsity(d_sae=3)
    >>> metric.update(Code.from_dense(torch.tensor([[1.0, 0.0, 0.0], [2.0, 3.0, 0.0]])))
    >>> sparsity = metric.compute()
    >>> sparsity["l0"].item(), round(sparsity["dead_fraction"].item(), 4), sparsity["firing_frequency"].tolist()
    (1.5, 0.3333, [1.0, 0.5, 0.0])
    """

    full_state_update = False
    firing_counts: Tensor
    n_samples: Tensor

    def __init__(self, d_sae: int) -> None:
        super().__init__(process_group=group_of())
        self.add_state("firing_counts", torch.zeros(d_sae, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("n_samples", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, code: Code) -> None:
        """Add the latents of samples."""
        self.firing_counts = self.firing_counts + code.firing_counts()
        self.n_samples = self.n_samples + code.batch_size

    def compute(self) -> dict[str, Float[Tensor, "..."]]:
        """Return the sparsity of all samples so far."""
        frequency = self.firing_counts.double() / self.n_samples
        return {
            "l0": frequency.sum(),
            "dead_fraction": (self.firing_counts == 0).double().mean(),
            "firing_frequency": frequency,
            "n_samples": self.n_samples.double(),
        }
