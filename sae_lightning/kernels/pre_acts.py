"""`PreActs`: the pre-activations of a batch, computed a few rows at a time.

`[batch, d_sae]` pre-activations are by far the largest tensor of a training step, and only the few that become latents
are needed again. So they are computed in blocks of rows that stay in the cache, are read once, and are dropped.

Where the CPU multiplies bfloat16 faster than float32, a block is only a *screen*: products of rounded inputs, with a
bound on their distance from the float32 values. An entry that lies further below a limit than that bound cannot reach
it; the few others are computed again in float32. The selection and every value are those of float32 products, and the
large product takes half the time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.profiler import record_function

CPU_ROWS, CPU_ENTRIES = 512, 6 * 2**20
"""Most rows and most entries of a block on a CPU: 24 MB of float32 stay in the cache from product to selection."""
DEVICE_ENTRIES = 2**28
"""Most entries of a block on other devices, where blocks only bound the memory: 1 GB of float32."""

SCREEN_MIN_D_IN = 256
"""Least d_in for a screen: below it the exact values of the candidates cost more than the faster product saves."""


@dataclass
class Products:
    """Fast products of this machine; none until `cpu_settings` has tried them.

    Args:
        packed: dtypes that oneDNN multiplies with the encoder in its own layout, into which it is copied once a batch.
        screened: bfloat16 products are fast enough to be a screen for float32 ones.
    """

    packed: frozenset[torch.dtype] = frozenset()
    screened: bool = False


products = Products()


def product_dtype(x: Tensor) -> torch.dtype:
    """Return the number format in which x is multiplied: that of autocast where it is on, else its own."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


class PreActs:
    """Pre-activations `x @ W_enc + b_enc` in blocks of rows, without gradient.

    Under autocast the products, and with them the values, have autocast's precision; there is no screen then.

    Args:
        x: [batch, d_in] centred activations: `b_dec` is already subtracted.
        W_enc: [d_in, d_sae] encoder; a transposed view of [d_sae, d_in] memory is not copied.
        b_enc: [d_sae] encoder bias.
        screen: allow a screen, where the machine has one.

    Attributes:
        by_latent: [d_sae, d_in] encoder, a row for each latent.
        dtype: of the products.
        screened: whether blocks are screens; a selection that finds too many candidates clears it.
    """

    def __init__(
        self,
        x: Float[Tensor, "batch d_in"],
        W_enc: Float[Tensor, "d_in d_sae"],
        b_enc: Float[Tensor, " d_sae"],
        screen: bool = True,
    ) -> None:
        self.x, self.by_latent, self.b_enc = x.detach(), W_enc.detach().T, b_enc.detach()
        self.batch_size, self.d_sae, self.device = x.shape[0], W_enc.shape[1], x.device
        self.dtype = product_dtype(x)
        self.screened = (
            (screen and products.screened and x.device.type == "cpu")
            and self.dtype == torch.float32
            and x.shape[1] >= SCREEN_MIN_D_IN
        )

    def blocks(self) -> Iterator[tuple[int, Float[Tensor, "rows d_sae"], Float[Tensor, "rows 1"] | None]]:
        """Yield the pre-activations block by block, in order of rows.

        Yields:
            The number of the block's first row, the block, and for a screen the largest possible distance of each
            row's entries from their float32 values, before the entries were rounded to bfloat16; else None. Delete
            the block before asking for the next one.
        """
        n_rows = rows_of_blocks(self.batch_size, self.d_sae, self.device.type)
        with record_function("sae::encode"):
            if self.screened:
                # With x = x' + dx and w = w' + dw, where x' and w' are bfloat16,
                #     |x w - x' w'| <= ||dx|| ||w|| + ||x'|| ||dw||.
                # The float32 sums of both products err by at most d_in 2^-24 ||x|| ||w|| each, which is doubled here,
                # and rounding b_enc by at most 2^-8 |b_enc|. The factor 1.01 covers ||x'|| <= (1 + 2^-8) ||x|| and the
                # rounding of the bound itself.
                x, x_norm, x_error = _round_to_bfloat16(self.x)
                weight, w_norm, w_error = _round_to_bfloat16(self.by_latent)
                accumulation = 2**-22 * self.x.shape[1]
                bound = w_norm.max() * (x_error + accumulation * x_norm) + w_error.max() * x_norm
                bound = 1.01 * (bound + 2**-8 * self.b_enc.abs().max())
            else:
                x, weight, bound = self.x.to(self.dtype), self.by_latent.to(self.dtype), None
            multiply = _product(weight, self.b_enc.to(weight.dtype), n_rows)
        for start in range(0, max(1, self.batch_size), n_rows):  # an empty batch has one empty block
            rows = slice(start, start + n_rows)
            # No local variable holds the block: the next one is to get its memory, which is in the cache.
            yield start, record_function("sae::encode")(multiply)(x[rows]), None if bound is None else bound[rows]

    def minus(self, threshold: Float[Tensor, " d_sae"]) -> "PreActs":
        """Return the pre-activations less the threshold of each latent, so that the limit of every latent is 0."""
        return PreActs(self.x, self.by_latent.T, self.b_enc - threshold.detach())

    def exact(self, rows: Int64[Tensor, " n"]) -> Float[Tensor, "n d_sae"]:
        """Return whole rows, computed without a screen."""
        return PreActs(self.x[rows], self.by_latent.T, self.b_enc, screen=False).dense()

    def dense(self) -> Float[Tensor, "batch d_sae"]:
        """Return all pre-activations in the dtype of x, computed without a screen."""
        x, weight, b_enc = (tensor.to(self.dtype) for tensor in (self.x, self.by_latent, self.b_enc))
        return _product(weight, b_enc, self.batch_size)(x).to(self.x.dtype)


def rows_of_blocks(batch: int, d_sae: int, device: str) -> int:
    """Return how many rows a block has; the last may have fewer.

    A CPU takes as many as fit its cache. On other devices a small last block would leave most of the device idle, so
    blocks are equal.

    >>> rows_of_blocks(4096, 73_728, "cuda")
    2048
    """
    if device == "cpu":
        return max(1, min(CPU_ROWS, CPU_ENTRIES // d_sae))
    n_blocks = max(1, -(-batch // max(1, DEVICE_ENTRIES // d_sae)))
    return max(1, -(-batch // n_blocks))


def _round_to_bfloat16(matrix: Float[Tensor, "n d"]) -> tuple[Tensor, Float[Tensor, "n 1"], Float[Tensor, "n 1"]]:
    """Return the matrix in bfloat16, the norm of each row, and the norm of each row's rounding error."""
    n, d = matrix.shape
    rounded = torch.empty(n, d, dtype=torch.bfloat16, device=matrix.device)
    norm, error = matrix.new_empty(2, n, 1).unbind()
    step = max(1, 2**18 // d)  # a megabyte at a time, which all three passes read from the cache
    for start in range(0, n, step):
        rows = slice(start, start + step)
        rounded[rows] = matrix[rows]
        torch.linalg.vector_norm(matrix[rows], dim=1, keepdim=True, out=norm[rows])
        torch.linalg.vector_norm(matrix[rows] - rounded[rows], dim=1, keepdim=True, out=error[rows])
    return rounded, norm, error


def _product(
    weight: Float[Tensor, "d_sae d_in"], bias: Float[Tensor, " d_sae"], n_rows: int
) -> Callable[[Tensor], Tensor]:
    """Return the function `x -> x @ weight.T + bias`, prepared for x of about n_rows rows."""
    if weight.device.type == "cpu" and weight.dtype in products.packed:
        return _packed_product(weight, bias, n_rows)
    return lambda x: torch.addmm(bias, x, weight.T)


def _packed_product(
    weight: Float[Tensor, "d_sae d_in"], bias: Float[Tensor, " d_sae"], n_rows: int
) -> Callable[[Tensor], Tensor]:
    """Return the same function with the weight in oneDNN's layout, on a CPU for which `can_pack` is true."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, n_rows)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


def can_pack(dtype: torch.dtype) -> bool:
    """Return whether oneDNN multiplies by packed weights of this dtype on this machine, and accurately.

    The operation itself is tried, for each dtype: a CPU without AVX-512 (or AVX-NE-CONVERT) packs float32 weights and
    raises for bfloat16 ones.
    """
    random = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(shape, generator=random).to(dtype) for shape in ((8, 64), (32, 64), (32,)))
    exact = x.double() @ weight.double().T + bias.double()
    try:
        product = _packed_product(weight, bias, len(x))(x)
    except (RuntimeError, AttributeError):  # refused for this CPU, or a torch without oneDNN
        return False
    return bool((product.double() - exact).abs().max() <= 4 * torch.finfo(dtype).eps * exact.abs().max())
