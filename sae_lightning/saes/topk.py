"""TopK SAE (Gao et al. 2024, arXiv 2406.04093).

latents = relu(the k largest pre_acts of each sample)        loss = mse + aux_coefficient * AuxK
"""

from typing import Any

from sae_lightning.checks import check_whole
from sae_lightning.code import Code
from sae_lightning.kernels import PreActs, top_k_per_row
from sae_lightning.saes.base import SparseAutoencoder


class TopK(SparseAutoencoder):
    """The k largest pre-activations of each sample.

    Args:
        d_in: width of an activation; linked to the data.
        k: latents per sample, 1 to d_sae; fewer where fewer pre-activations are positive.
        aux_coefficient: weight of the AuxK loss that revives dead latents, 0 or more.
        kwargs: those of SparseAutoencoder.
    """

    def __init__(self, d_in: int, k: int = 32, aux_coefficient: float = 1 / 32, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(d_in, aux_coefficient=aux_coefficient, **kwargs)
        check_whole(1, self.d_sae, k=k, hint=f"since d_sae={self.d_sae}")
        self.k = k

    def select(self, pre_acts: PreActs) -> Code:
        """Return the k largest entries of each row."""
        return top_k_per_row(pre_acts, self.k, self.mesh)

    def settings(self) -> dict[str, Any]:
        """Return the settings of SparseAutoencoder, and k."""
        return {**super().settings(), "k": self.k}
