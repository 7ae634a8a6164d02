"""Matryoshka BatchTopK SAE (Bussmann, Nabeshima, Karvonen, Nanda 2025, arXiv 2503.17547).

    loss = mean over g of the mse of reconstructing with the first g groups of latents alone + aux_coefficient * AuxK

Selection is that of BatchTopK over all latents together. Earlier groups are in more of the reconstructions and learn
what is common; later ones add detail. Departure from public code: the mean leaves out the error of `b_dec` alone, a
reconstruction without any group; so with one group this is BatchTopK.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.checks import is_finite
from sae_lightning.code import Code
from sae_lightning.kernels import sparse_decode
from sae_lightning.latent_mesh import LatentMesh
from sae_lightning.saes.batch_topk import BatchTopK


class MatryoshkaBatchTopK(BatchTopK):
    """BatchTopK whose first groups of latents also reconstruct by themselves.

    Args:
        d_in: width of an activation; linked to the data.
        group_fractions: share of the latents in each group, above 0, with the sum 1; by default those of Korznikov et
            al. 2026, arXiv 2602.14111.
        kwargs: those of BatchTopK and SparseAutoencoder.
    """

    def __init__(self, d_in: int, group_fractions: Sequence[float] = (0.5, 0.3, 0.2), **kwargs: Any) -> None:
        super().__init__(d_in, **kwargs)
        if not all(is_finite(fraction) for fraction in group_fractions):
            raise ValueError(f"group_fractions={list(group_fractions)}: expected finite numbers")
        ends = [round(self.d_sae * fraction) for fraction in accumulate(group_fractions)]
        if abs(sum(group_fractions) - 1) > 1e-6 or any(
            end <= start for start, end in zip([0, *ends], ends, strict=False)
        ):
            raise ValueError(
                f"group_fractions={list(group_fractions)}: expected shares with the sum 1, each of one latent or more "
                f"of d_sae={self.d_sae}, such as [0.5, 0.3, 0.2]"
            )
        self.group_fractions = list(group_fractions)
        self.group_ends = ends
        """One past the last latent of each group; the last is d_sae."""
        self.mesh = LatentMesh([end - start for start, end in pairwise([0, *ends])])

    def reconstruction_losses(
        self, code: Code, target: Float[Tensor, "batch d_out"], W_dec: Float[Tensor, "d_sae d_out"]
    ) -> tuple[Float[Tensor, "batch d_out"], dict[str, Tensor]]:
        """Return the reconstruction with all groups, `loss`, the mean over prefixes, and `mse`, that of all groups."""
        ends, batch = self.mesh.own_ends, code.batch_size
        n_groups = len(ends)
        group = torch.bucketize(code.indices, torch.tensor(ends, device=code.indices.device), right=True)
        # One decode for all prefixes: the batch is repeated for each group with the latents of that group alone, and
        # the cumulative sum over groups makes prefixes of them.
        entries = torch.cat([(group == g).nonzero()[:, 0] for g in range(n_groups)])
        rows = (code.rows + group * batch)[entries]
        parts = Code.from_entries(code.values[entries], rows, code.indices[entries], n_groups * batch, code.d_sae)
        x_hats = sparse_decode(parts.values, parts, W_dec, mesh=self.mesh)
        x_hats = x_hats.view(n_groups, batch, self.d_out).cumsum(0) + self.b_dec
        errors = (x_hats - target).square().sum((1, 2)) / batch
        return x_hats[-1], {"loss": errors.mean(), "mse": errors[-1]}

    def settings(self) -> dict[str, Any]:
        """Return the settings of BatchTopK, and the groups."""
        return {**super().settings(), "group_fractions": self.group_fractions}
