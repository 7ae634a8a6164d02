"""Products of a `Code` with a matrix, and their gradients from the code alone.

Latents z [batch, d_sae] are zero outside the entries of the code. So decoding, the gradient of the latents and both
weight gradients need only those entries: `embedding_bag` sums the matrix rows that they name. A code with many entries
(an untrained ReLU SAE has half of all) goes through dense products instead, where those are quicker.
"""

import warnings
from functools import cache
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from sae_lightning.code import Code
from sae_lightning.kernels.pre_acts import product_dtype
from sae_lightning.latent_mesh import ALONE, LatentMesh

DENSE_SHARE = 0.1
"""Share of stored entries from which dense products are quicker (estimated for d_in 512 on two AVX-512 cores)."""
GPU_DENSE_SHARE, TENSOR_CORE_DENSE_SHARE = 0.05, 0.005
"""The same on a GPU for float32, and for formats that its tensor cores multiply. Computed for an H100, not measured:
a sparse product reads a row from memory (3 TB/s) for each entry, a dense one multiplies (50 and 650 TFLOP/s)."""

with warnings.catch_warnings():  # torch warns once, at the first of them, that sparse CSR tensors are in beta
    warnings.simplefilter("ignore", UserWarning)
    torch.sparse_csr_tensor([0, 0], torch.empty(0, dtype=torch.int64), torch.empty(0), (1, 1))


def sparse_encode(
    x: Float[Tensor, "batch d_in"],
    W_enc: Float[Tensor, "d_in d_sae"],
    b_enc: Float[Tensor, " d_sae"],
    b_dec: Float[Tensor, " d_in"] | None,
    code: Code,
) -> Float[Tensor, " nnz"]:
    """Return `code.values` as a differentiable function of the encoder that they were computed with.

    Args:
        x: [batch, d_in] centred activations: `b_dec` is already subtracted.
        W_enc: [d_in, d_sae] encoder.
        b_enc: [d_sae] encoder bias.
        b_dec: [d_in] the bias that was subtracted from x, or None; it gets its gradient from here, not through x.
        code: the chosen entries of `x @ W_enc + b_enc` and their values.

    Returns:
        [nnz] values in the dtype of x, with gradients to x, W_enc, b_enc and b_dec.
    """
    return _SparseEncode.apply(x, W_enc, b_enc, b_dec, code)


def sparse_decode(
    values: Float[Tensor, " nnz"],
    code: Code,
    W_dec: Float[Tensor, "d_sae d_in"],
    b_dec: Float[Tensor, " d_in"] | None = None,
    mesh: LatentMesh = ALONE,
) -> Float[Tensor, "batch d_in"]:
    """Return `z @ W_dec + b_dec`, where z has the values at the entries of `code` and zeros elsewhere.

    Args:
        values: [nnz] latents; they stand in place of `code.values`.
        code: names the entries.
        W_dec: [d_sae, d_in] decoder.
        b_dec: [d_in] decoder bias, or None for none.
        mesh: of the ranks that have the other latents; the loss must be the same on all of them.

    Returns:
        [batch, d_in] reconstructions, with gradients to values, W_dec and b_dec.
    """
    if mesh.size == 1:
        return _SparseDecode.apply(values, code, W_dec, b_dec)
    x_hat = mesh.sum(_SparseDecode.apply(values, code, W_dec, None))
    return x_hat if b_dec is None else x_hat + b_dec


def _bag(indices: Tensor, offsets: Tensor, weights: Tensor, matrix: Tensor, order: Tensor | None = None) -> Tensor:
    """Return a sum for each bag b: over its entries e, in this order, of `weights[e] * matrix[indices[e]]`."""
    weights = weights.to(matrix.dtype)
    if kernels := _gpu_kernels(matrix):
        return kernels.bag_sum(indices, offsets, weights, matrix, order)
    if order is not None:
        indices, weights = indices[order], weights[order]
    return F.embedding_bag(indices, matrix, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True)


def _gpu_kernels(tensor: Tensor) -> ModuleType | None:
    """Return the Triton kernels if they can run on this tensor; imported only then, for time and memory."""
    return _kernels_that_run() if tensor.is_cuda else None


@cache
def _kernels_that_run() -> ModuleType | None:
    """Return the Triton kernels, or None where they do not run, which is said once: torch's own take their place."""
    from sae_lightning.kernels import triton_bag

    try:
        triton_bag.try_out()
    except Exception as error:  # Triton raises what its compiler, driver or cache folder raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(
            f"the Triton kernels do not run here, and torch's own, which are slower, take their place: {reason} "
            "(Triton needs a C compiler, such as gcc, and a folder that it may write to, TRITON_CACHE_DIR)",
            stacklevel=2,
        )
        return None
    return triton_bag


def dense_share(device: torch.device, dtype: torch.dtype) -> float:
    """Return the share of stored entries from which dense products are quicker.

    Args:
        device: that multiplies.
        dtype: number format of dense products; of float32 torch's matmul precision decides.
    """
    if device.type == "cpu":
        return DENSE_SHARE
    may_round = dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest"  # to TF32
    return TENSOR_CORE_DENSE_SHARE if may_round or dtype.itemsize == 2 else GPU_DENSE_SHARE


def is_dense(code: Code, dtype: torch.dtype) -> bool:
    """Return whether products of a code are quicker through a dense matrix of this number format."""
    return code.nnz > dense_share(code.values.device, dtype) * code.batch_size * code.d_sae


def _multiplied(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """Return left @ right in the dtype of right, multiplied in another."""
    with torch.autocast(right.device.type, enabled=False):
        return (left.to(dtype) @ right.to(dtype)).to(right.dtype)


def _times(values: Tensor, code: Code, matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """Return z @ matrix, [batch, n]; a dense product is in `dtype`."""
    if is_dense(code, dtype):
        return _multiplied(code.with_values(values.to(dtype)).to_dense(), matrix, dtype)
    return _bag(code.indices, code.offsets, values, matrix)


def transposed_times(values: Tensor, code: Code, matrix: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return z^T @ matrix: the gradient of a weight, and the right side of least squares.

    Args:
        values: [nnz] latents; they stand in place of `code.values`.
        code: names the entries.
        matrix: [batch, n] a row for each sample.
        dtype: number format of a dense product; that of matrix by default.

    Returns:
        [d_sae, n] in the dtype of matrix.
    """
    dtype = dtype or matrix.dtype
    if is_dense(code, dtype):
        return _multiplied(code.with_values(values.to(dtype)).to_dense().T, matrix, dtype)
    order, starts = code.by_latent
    return _bag(code.rows, starts, values, matrix, order)


def sampled_times(left: Tensor, right: Tensor, code: Code, dtype: torch.dtype | None = None) -> Tensor:
    """Return the entries of `left @ right.T` that the code names: the gradient of the latents.

    Args:
        left: [batch, n] a row for each sample.
        right: [d_sae, n] a row for each latent.
        code: names the entries.
        dtype: number format of a dense product; that of right by default.

    Returns:
        [nnz] dot products, in the order of the code.
    """
    dtype = dtype or right.dtype
    if is_dense(code, dtype):
        return code.take_from(_multiplied(left, right.T, dtype))
    if code.nnz == 0:
        return left.new_zeros(0)
    if kernels := _gpu_kernels(left):
        return kernels.sampled_dot(left, right, code.indices, code.offsets)
    if left.is_cuda:
        return torch.ops.aten._embedding_bag_per_sample_weights_backward(
            left, right, code.indices, code.offsets, code.rows, 0
        )
    # By latent, so that each row of the larger matrix is read once: the pattern is [d_sae, batch].
    order, starts = code.by_latent
    pattern = torch.sparse_csr_tensor(
        starts, code.rows[order], left.new_zeros(code.nnz), (code.d_sae, code.batch_size), check_invariants=False
    )
    sorted_products = torch.sparse.sampled_addmm(pattern, right, left.T, beta=0.0).values()
    return torch.empty_like(sorted_products).index_put_((order,), sorted_products)


class _SparseEncode(Function):
    """The values are known from the selection, so forward computes nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, W_enc: Tensor, b_enc: Tensor, b_dec: Tensor | None, code: Code) -> Tensor:
        ctx.save_for_backward(x, W_enc)
        ctx.code, ctx.dtype = code, product_dtype(x)  # backward runs without autocast
        return code.values.detach().to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, W_enc = ctx.saved_tensors
        code: Code = ctx.code
        needs_x, needs_W_enc, needs_b_enc, needs_b_dec, _ = ctx.needs_input_grad
        grad_x = _times(grad, code, W_enc.T, ctx.dtype) if needs_x else None
        grad_W_enc = transposed_times(grad, code, x, ctx.dtype).T if needs_W_enc else None
        grad_b_enc = grad_b_dec = None
        if needs_b_enc or needs_b_dec:
            grad_b_enc = code.sum_by_latent(grad)
        if needs_b_dec:
            grad_b_dec = -(W_enc @ grad_b_enc)  # minus the sum of grad_x over rows, without computing grad_x
        return grad_x, grad_W_enc, grad_b_enc if needs_b_enc else None, grad_b_dec, None


class _SparseDecode(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, code: Code, W_dec: Tensor, b_dec: Tensor | None) -> Tensor:
        ctx.save_for_backward(values, W_dec)
        ctx.code, ctx.dtype = code, product_dtype(W_dec)
        x_hat = _times(values, code, W_dec, ctx.dtype)
        return x_hat if b_dec is None else x_hat.add_(b_dec)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        values, W_dec = ctx.saved_tensors
        needs_values, _, needs_W_dec, needs_b_dec = ctx.needs_input_grad
        grad = grad.contiguous()
        grad_values = sampled_times(grad, W_dec, ctx.code, ctx.dtype) if needs_values else None
        grad_W_dec = transposed_times(values, ctx.code, grad, ctx.dtype) if needs_W_dec else None
        return grad_values, None, grad_W_dec, grad.sum(0) if needs_b_dec else None
