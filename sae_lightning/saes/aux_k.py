"""AuxK: dead latents learn from what the live ones leave unexplained (Gao et al. 2024, arXiv 2406.04093).

    loss = mean over samples of ||r - r_hat||^2 * min(n_dead / k_aux, 1)

where r is the detached residual and r_hat its reconstruction, without `b_dec`, from the `k_aux = d_out / 2` dead
latents with the largest raw pre-activations, which may be negative. The normalisation is that of the main loss (a sum
over dimensions, a mean over samples).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from sae_lightning.kernels import PreActs, largest_code, sparse_decode, sparse_encode
from sae_lightning.latent_mesh import ALONE, LatentMesh


def aux_k_loss(
    x: Float[Tensor, "batch d_in"],
    residual: Float[Tensor, "batch d_out"],
    dead: Bool[Tensor, " d_sae"],
    W_enc: Float[Tensor, "d_in d_sae"],
    b_enc: Float[Tensor, " d_sae"],
    b_dec: Float[Tensor, " d_in"] | None,
    W_dec: Float[Tensor, "d_sae d_out"],
    mesh: LatentMesh = ALONE,
) -> Float[Tensor, ""] | None:
    """Return the loss above, or None when no latent is dead.

    Args:
        x: [batch, d_in] centred activations: `b_dec` is already subtracted.
        residual: [batch, d_out] the target of the dead latents, x - x_hat; detached here.
        dead: [d_sae] which latents are dead.
        W_enc: [d_in, d_sae] encoder.
        b_enc: [d_sae] encoder bias.
        b_dec: [d_in] the bias that was subtracted from x, or None.
        W_dec: [d_sae, d_out] decoder.
        mesh: of the ranks that have the other latents, whose dead ones compete with those of this rank.
    """
    dead_latents = dead.nonzero()[:, 0]
    n_own = dead_latents.numel()
    n_dead = n_own if mesh.size == 1 else int(mesh.sum(dead.sum()))
    if n_dead == 0:
        return None
    k_aux = max(1, residual.shape[1] // 2)
    # A small SAE of the dead latents alone: where few are dead, a large share of them is in each code, and dense
    # products are quicker. Their number changes all the time, and product libraries make and keep a kernel for each
    # size, so sizes grow in steps; the padding is latent 0 with a bias of -inf, which is never chosen.
    step = max(64, len(dead) // 32)
    latents = F.pad(dead_latents, (0, -n_own % step if n_own else step))
    padding = torch.arange(len(latents), device=latents.device) >= n_own
    W_enc, b_enc, W_dec = W_enc.T[latents].T, b_enc[latents].masked_fill(padding, -torch.inf), W_dec[latents]
    code = largest_code(PreActs(x, W_enc, b_enc, screen=False), min(k_aux, n_dead), mesh)
    explained = sparse_decode(sparse_encode(x, W_enc, b_enc, b_dec, code), code, W_dec, mesh=mesh)
    return (residual.detach() - explained).square().sum(1).mean() * min(n_dead / k_aux, 1.0)
