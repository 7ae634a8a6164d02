"""Sums and dot products of the matrix rows that CSR entries name, as Triton kernels for CUDA.

A program is one warp: it takes one bag (the entries between two offsets) and one slice of the columns, and reads the
slice of several matrix rows at a time. Bags are the fast axis of the grid, so all bags work on the same slice of the
matrix before the next slice begins, and the slice stays in the L2 cache. A bag much longer than the others would hold
up the end of a launch; so `bag_sum` first sums, in a launch of its own, the chunks of `CHUNK` entries that lie inside
one bag.

Grids depend on shapes alone, nothing waits for the device, and no atomics are used: the calls can be captured in a CUDA
graph and give the same bits every time. The results carry no gradient. Indices and offsets are not checked.

Without a GPU the kernels run under Triton's interpreter, if TRITON_INTERPRET=1 is set before triton is first imported.
"""

# ruff: noqa: ANN001, ANN202 (the arguments of kernels are pointers, numbers and constants of Triton)

from __future__ import annotations  # Triton is not needed to read the annotations of its kernels

from collections.abc import Callable
from typing import Any, no_type_check

import torch
from jaxtyping import Float, Int64
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = tl = None

CHUNK = 256
"""Entries that are summed beforehand if they all belong to one bag; more than a usual row of a code has."""

L2_BYTES = 20 * 2**20
"""What one slice of a matrix may take of the L2 cache (50 MB in two halves on an H100 or H200)."""

LOAD_BYTES = 4096
"""What a warp reads of the matrix at a time: 8 loads of 16 bytes per thread."""


def _jit(function: Callable[..., Any]) -> Any:
    return triton.jit(function) if triton is not None else function


@_jit
@no_type_check  # keeps the hook of jaxtyping away from code that is compiled from its source
def _sum_entries(
    begin, end, indices, weights, order, matrix, stride, column, d,
    ACC: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Return the weighted sum [BLOCK_D] of a slice of the rows named by entries begin:end, or of rows begin:end."""
    total = tl.zeros([BLOCK_D], ACC)
    for start in range(begin, end, BLOCK_N):
        entry = start + tl.arange(0, BLOCK_N)
        inside = entry < end
        tile_mask = inside[:, None] & (column < d)[None, :]
        if order is not None:
            entry = tl.load(order + entry, mask=inside, other=0)
        row = entry if indices is None else tl.load(indices + entry, mask=inside, other=0)
        tile = tl.load(matrix + row[:, None] * stride + column[None, :], mask=tile_mask, other=0.0).to(ACC)
        if weights is not None:
            tile *= tl.load(weights + entry, mask=inside, other=0.0).to(ACC)[:, None]
        total += tl.sum(tile, 0)
    return total


@_jit
@no_type_check
def _chunk_sum_kernel(
    indices, offsets, weights, order, matrix, bag_end, chunk_sums, stride, d,
    ACC: tl.constexpr, CHUNK: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Write row c of chunk_sums: the sum over entries c * CHUNK:(c + 1) * CHUNK, if one bag has them all."""
    chunk = tl.program_id(0).to(tl.int64)
    begin = chunk * CHUNK
    if tl.load(offsets + tl.load(bag_end + chunk)) >= begin + CHUNK:
        column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
        total = _sum_entries(
            begin, begin + CHUNK, indices, weights, order, matrix, stride, column, d, ACC, BLOCK_N, BLOCK_D
        )
        tl.store(chunk_sums + chunk * d + column, total, mask=column < d)


@_jit
@no_type_check
def _bag_sum_kernel(
    indices, offsets, weights, order, matrix, chunk_sums, out, stride, d,
    ACC: tl.constexpr, CHUNK: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Write row b of out: entries before the first whole chunk of bag b, its whole chunks, and entries after them."""
    bag = tl.program_id(0).to(tl.int64)
    begin = tl.load(offsets + bag)
    end = tl.load(offsets + bag + 1)
    first = (begin + CHUNK - 1) // CHUNK
    last = tl.maximum(end // CHUNK, first)  # one past the last whole chunk
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    middle = tl.minimum(first * CHUNK, end)
    total = _sum_entries(begin, middle, indices, weights, order, matrix, stride, column, d, ACC, BLOCK_N, BLOCK_D)
    total += _sum_entries(first, last, None, None, None, chunk_sums, d, column, d, ACC, BLOCK_N, BLOCK_D)
    total += _sum_entries(last * CHUNK, end, indices, weights, order, matrix, stride, column, d, ACC, BLOCK_N, BLOCK_D)
    tl.store(out + bag * d + column, total.to(out.dtype.element_ty), mask=column < d)


@_jit
@no_type_check
def _sampled_dot_kernel(
    left, right, indices, offsets, out, left_stride, right_stride, d, n,
    ACC: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Write row s of out [slices, n]: what slice s of the columns adds to each dot product."""
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1).to(tl.int64)
    column = part * BLOCK_D + tl.arange(0, BLOCK_D)
    end = tl.load(offsets + row + 1)
    own = tl.load(left + row * left_stride + column, mask=column < d, other=0.0).to(ACC)
    for start in range(tl.load(offsets + row), end, BLOCK_N):
        entry = start + tl.arange(0, BLOCK_N)
        inside = entry < end
        index = tl.load(indices + entry, mask=inside, other=0)
        tile_mask = inside[:, None] & (column < d)[None, :]
        tile = tl.load(right + index[:, None] * right_stride + column[None, :], mask=tile_mask, other=0.0)
        tl.store(out + part * n + entry, tl.sum(tile.to(ACC) * own[None, :], 1), mask=inside)


def try_out(device: torch.device | str = "cuda") -> None:
    """Run a kernel on one number; raises what keeps kernels from running, such as a missing C compiler."""
    one = torch.ones(1, 1, device=device)
    bag_sum(torch.zeros(1, dtype=torch.int64, device=device), torch.arange(2, device=device), one[0], one)


def is_available() -> bool:
    """Return whether `bag_sum` and `sampled_dot` can run: on CUDA tensors, or on any under Triton's interpreter."""
    return triton is not None and (torch.cuda.is_available() or not isinstance(_bag_sum_kernel, triton.JITFunction))


def bag_sum(
    indices: Int64[Tensor, " n"],
    offsets: Int64[Tensor, " starts"],
    weights: Float[Tensor, " n"],
    matrix: Float[Tensor, "m d"],
    order: Int64[Tensor, " n"] | None = None,
) -> Float[Tensor, "bags d"]:
    """Sum rows by bag: row b sums `weights[e] * matrix[indices[e]]` over the entries e in `offsets[b]:offsets[b + 1]`.

    Args:
        indices: [n] the matrix row of each entry, in 0..m-1.
        offsets: [bags + 1] where each bag starts, and n. Not decreasing, and the first is 0.
        weights: [n] the factor of each entry; its dtype may differ from that of matrix.
        matrix: [m, d] the rows to sum. Copied unless the columns of a row lie side by side in memory.
        order: [n] if given, entry e has the weight `weights[order[e]]` and the row `indices[order[e]]`.

    Returns:
        [bags, d] in the dtype of matrix, summed in float32 (float64 if weights or matrix are float64).

    Raises:
        RuntimeError: if the kernels are not available here.
    """
    _check_available()
    bags, n, d = offsets.numel() - 1, indices.numel(), matrix.shape[1]
    out = matrix.new_empty(bags, d)
    if out.numel() == 0:
        return out
    indices, offsets, weights, matrix = indices.contiguous(), offsets.contiguous(), weights.contiguous(), _rows(matrix)
    order = order if order is None else order.contiguous()
    acc, slices, options = _plan(weights.dtype, matrix)
    options["CHUNK"] = CHUNK
    chunks = n // CHUNK
    chunk_sums = matrix.new_empty(chunks, d, dtype=acc)
    with torch.cuda.device_of(matrix):  # Triton launches on the current device
        if chunks:
            starts = torch.arange(0, chunks * CHUNK, CHUNK, device=offsets.device)
            bag_end = torch.searchsorted(offsets[:-1], starts, right=True)  # offsets[bag_end] ends the bag of start
            _chunk_sum_kernel[(chunks, slices)](
                indices, offsets, weights, order, matrix, bag_end, chunk_sums, matrix.stride(0), d, **options
            )
        _bag_sum_kernel[(bags, slices)](
            indices, offsets, weights, order, matrix, chunk_sums, out, matrix.stride(0), d, **options
        )
    return out


def sampled_dot(
    left: Float[Tensor, "batch d"],
    right: Float[Tensor, "m d"],
    indices: Int64[Tensor, " n"],
    offsets: Int64[Tensor, " starts"],
) -> Float[Tensor, " n"]:
    """Return the dot products of `left[b]` and `right[indices[e]]` for all entries e in `offsets[b]:offsets[b + 1]`.

    Args:
        left: [batch, d] one row for each bag.
        right: [m, d] the rows that the entries name. Like left, copied unless a row lies side by side in memory.
        indices: [n] the row of right for each entry, in 0..m-1.
        offsets: [batch + 1] where the entries of each row of left start, and n. Not decreasing, and the first is 0.

    Returns:
        [n] in the promoted dtype of left and right, summed in float32 (float64 if left or right are float64).

    Raises:
        RuntimeError: if the kernels are not available here.
    """
    _check_available()
    n, d, dtype = indices.numel(), left.shape[1], torch.promote_types(left.dtype, right.dtype)
    if n == 0 or d == 0:
        return right.new_zeros(n, dtype=dtype)
    left, right, indices, offsets = _rows(left), _rows(right), indices.contiguous(), offsets.contiguous()
    acc, slices, options = _plan(left.dtype, right)
    out = right.new_empty(slices, n, dtype=acc)
    with torch.cuda.device_of(right):
        _sampled_dot_kernel[(left.shape[0], slices)](
            left, right, indices, offsets, out, left.stride(0), right.stride(0), d, n, **options
        )
    return out.sum(0).to(dtype)


def _check_available() -> None:
    if not is_available():
        raise RuntimeError(
            "The Triton kernels need the package triton, and a CUDA device or TRITON_INTERPRET=1 in the environment "
            "before triton is first imported."
        )


def _rows(matrix: Tensor) -> Tensor:
    """Return the matrix with the columns of a row side by side in memory; the rows may lie apart."""
    return matrix if matrix.stride(1) == 1 else matrix.contiguous()


def _plan(other: torch.dtype, matrix: Tensor) -> tuple[torch.dtype, int, dict[str, Any]]:
    """Return the dtype to sum in, the number of slices of the columns, and the options of a launch."""
    (m, d), size = matrix.shape, matrix.element_size()
    double = torch.float64 in (other, matrix.dtype)
    # Of one row: 16 bytes for each thread of the warp, or fewer so that the slice of all rows stays in the cache, and
    # then several rows at a time; 128 bytes are what the memory gives at once.
    slice_bytes = next((size for size in (512, 256) if size * m <= L2_BYTES), 128)
    block_d = min(slice_bytes // size, triton.next_power_of_2(d))
    block_n = min(LOAD_BYTES // (block_d * size), 32)
    options = {"ACC": tl.float64 if double else tl.float32, "BLOCK_N": block_n, "BLOCK_D": block_d}
    # Fusing a product and a sum is Triton's default; stating it avoids a warning.
    options |= {"num_warps": 1, "enable_fp_fusion": True}
    return torch.float64 if double else torch.float32, triton.cdiv(d, block_d), options
