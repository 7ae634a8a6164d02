"""AuxK: dead latents learn from what the live ones leave unexplained (Gao et al. 2024, arXiv 2406.04093).

    loss = mean over samples of ||r - r_hat||^2 * min(n_dead / k_aux, 1)

where r is the detached residual and r_hat its reconstruction, without `b_dec`, from the `k_aux = d_out / 2` dead
latents with the largest raw pre-activations, which may be negative. The normalisation is that of the main loss (a sum
over dimensions, a mean over samples).
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from sae_lightning.kernels import PreActs, largest_code, sparse_decode, sparse_encode
from sae_lightning.latent_mesh import ALONE, LatentMesh


@dataclass(frozen=True)
class DeadLatents:
    """A small SAE of the dead latents of this rank, whose tensors are differentiable copies.

    Where few are dead, a large share of them is in each code, and dense products are quicker. Their number changes all
    the time, and product libraries make and keep a kernel for each size, so sizes grow in steps; the padding is latent
    0 with a bias of -inf, which is never chosen.

    Args:
        W_enc: [d_in, n] encoder.
        b_enc: [n] encoder bias.
        W_dec: [n, d_out] decoder.
        n_dead: dead latents of all ranks.
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    n_dead: int


def with_dead_latents(
    dead: Bool[Tensor, " d_sae"],
    W_enc: Float[Tensor, "d_in d_sae"],
    b_enc: Float[Tensor, " d_sae"],
    W_dec: Float[Tensor, "d_sae d_out"],
    mesh: LatentMesh = ALONE,
) -> tuple[Float[Tensor, "d_in d_sae"], Float[Tensor, "d_sae d_out"], DeadLatents | None]:
    """Return the encoder and the decoder that the main loss is to use, and the dead latents, None where none is dead.

    The gradients of dead latents are then added to those of the main loss in place: by themselves they would each be
    another matrix of all latents.

    Args:
        dead: which latents are dead.
        W_enc: encoder.
        b_enc: encoder bias.
        W_dec: decoder.
        mesh: of the ranks that have the other latents.
    """
    dead_latents = dead.nonzero()[:, 0]
    n_own = dead_latents.numel()
    n_dead = n_own if mesh.size == 1 else int(mesh.sum(dead.sum()))
    if n_dead == 0:
        return W_enc, W_dec, None
    step = max(64, len(dead) // 32)
    latents = F.pad(dead_latents, (0, -n_own % step if n_own else step))
    padding = torch.arange(len(latents), device=latents.device) >= n_own
    by_latent, of_dead = _with_rows(W_enc.T, latents)
    W_dec, W_dec_of_dead = _with_rows(W_dec, latents)
    b_enc_of_dead = b_enc[latents].masked_fill(padding, -torch.inf)
    return by_latent.T, W_dec, DeadLatents(of_dead.T, b_enc_of_dead, W_dec_of_dead, n_dead)


def aux_k_loss(
    x: Float[Tensor, "batch d_in"],
    residual: Float[Tensor, "batch d_out"],
    dead: DeadLatents,
    b_dec: Float[Tensor, " d_in"] | None,
    mesh: LatentMesh = ALONE,
) -> Float[Tensor, ""]:
    """Return the loss above.

    Args:
        x: [batch, d_in] centred activations: `b_dec` is already subtracted.
        residual: [batch, d_out] the target of the dead latents, x - x_hat; detached here.
        dead: latents of this rank.
        b_dec: [d_in] the bias that was subtracted from x, or None.
        mesh: of the ranks that have the other latents, whose dead ones compete with those of this rank.
    """
    k_aux = max(1, residual.shape[1] // 2)
    pre_acts = PreActs(x, dead.W_enc, dead.b_enc, screen=False)
    code = largest_code(pre_acts, min(k_aux, dead.n_dead), mesh)
    values = sparse_encode(x, dead.W_enc, dead.b_enc, b_dec, code)
    explained = sparse_decode(values, code, dead.W_dec, mesh=mesh)
    return (residual.detach() - explained).square().sum(1).mean() * min(dead.n_dead / k_aux, 1.0)


def _with_rows(
    matrix: Float[Tensor, "n d"], rows: Int64[Tensor, " m"]
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Return a matrix and a copy of some of its rows, whose gradient is added to that of the matrix in place."""
    return _WithRows.apply(matrix, rows)


class _WithRows(Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(rows)
        return matrix.view_as(matrix), matrix[rows]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_of_rows: Tensor) -> tuple[Tensor, None]:
        # The gradient is a sum that autograd has made for this node alone.
        (rows,) = ctx.saved_tensors
        return grad.index_add_(0, rows, grad_of_rows), None
