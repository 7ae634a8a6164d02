"""BatchTopK SAE (Bussmann, Leask, Nanda 2024, arXiv 2412.06410).

    training:    latents = relu(the k * batch largest pre_acts of the batch)
    evaluation:  latents = pre_acts where pre_acts > threshold, so that a sample's latents do not depend on its batch

`threshold` is a running mean of the smallest latent kept in each training batch. Departures from public code:

- There the threshold starts at 0 and is biased low for hundreds of steps. Here it starts at the first batch's value;
  until then it is unset (NaN), and evaluating is an error.
- There it follows at a rate of 0.01, here of 0.1, since the smallest latent hardly varies between batches but moves as
  training goes on (docs/log.md has the l0 that each rate gives).
- The batch is the global one: selection and threshold are over all ranks.
"""

from typing import Any

import torch
from torch import Tensor

from sae_lightning.checks import check_share, check_whole
from sae_lightning.code import Code
from sae_lightning.distributed import all_reduce_min
from sae_lightning.kernels import PreActs, entries_above, top_k_of_batch
from sae_lightning.saes.base import SparseAutoencoder

GUESS = 0.97
"""First limit of the selection, relative to the smallest latent of the last batch; it decides the time, not the result.

Entries below it are searched only if too few lie above it."""


class BatchTopK(SparseAutoencoder):
    """The k * batch largest pre-activations of the batch; a threshold at evaluation.

    Args:
        d_in: width of an activation; linked to the data.
        k: latents per sample on average, 1 to d_sae.
        threshold_rate: share of each batch's smallest latent in the running threshold, in (0, 1].
        aux_coefficient: weight of the AuxK loss that revives dead latents, 0 or more.
        settle: after the last step move the threshold so that l0 is k on a sample of the training data (`held_l0.py`).
        kwargs: those of SparseAutoencoder.
    """

    in_scaled_units = (*SparseAutoencoder.in_scaled_units, "threshold")
    threshold: Tensor
    last_smallest: Tensor

    def __init__(
        self,
        d_in: int,
        k: int = 32,
        threshold_rate: float = 0.1,
        aux_coefficient: float = 1 / 32,
        settle: bool = False,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(d_in, aux_coefficient=aux_coefficient, **kwargs)
        check_whole(1, self.d_sae, k=k, hint=f"since d_sae={self.d_sae}")
        check_share(threshold_rate=threshold_rate, hint="such as 0.01")
        self.k, self.threshold_rate, self.settles = k, threshold_rate, settle
        self.register_buffer("threshold", torch.tensor(float("nan")))
        self.register_buffer("last_smallest", torch.zeros(()))

    def select(self, pre_acts: PreActs) -> Code:
        """Return in training mode the largest of the batch, and move the threshold; else those above the threshold.

        Raises:
            ValueError: in evaluation mode, if there is no threshold yet.
        """
        if not self.training:
            if torch.isnan(self.threshold):
                raise ValueError("BatchTopK has no threshold yet: train it for a step, or load a trained one")
            return entries_above(pre_acts, float(self.threshold))
        code = top_k_of_batch(pre_acts, self.k, GUESS * float(self.last_smallest), self.mesh)
        smallest = code.values.min() if code.nnz else code.values.new_tensor(torch.inf)
        smallest = self.mesh.min(all_reduce_min(smallest.to(self.threshold.dtype)))
        if torch.isfinite(smallest):
            self.last_smallest.copy_(smallest)
            # The first batch sets the threshold; later ones move it.
            followed = self.threshold.lerp(smallest, self.threshold_rate)
            self.threshold.copy_(torch.where(self.threshold.isnan(), smallest, followed))
        return code

    def settings(self) -> dict[str, Any]:
        """Return the settings of SparseAutoencoder, and k."""
        return {**super().settings(), "k": self.k}

    @property
    def held_l0(self) -> float | None:
        """The l0 that is settled after the last step of a fit; None where none is."""
        return float(self.k) if self.settles else None

    def raise_thresholds_(self, amount: float) -> None:
        """Let a latent be active only where its pre-activation is higher by this amount, and above 0."""
        self.threshold.add_(amount).clamp_min_(0.0)
