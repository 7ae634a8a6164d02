"""`PreActs`: the pre-activations of a batch, made a few rows at a time.

`[batch, d_sae]` pre-activations are by far the largest thing in a training step, and only the few that become latents
are needed again. So they are made in blocks of rows that stay in the cache, looked at once, and forgotten.

Where the CPU multiplies bfloat16 faster than float32, a block is only a *screen*: products of rounded inputs, with a
bound on their distance from the float32 value. An entry that lies further below a limit than that bound cannot reach
it; the few others are computed again in float32. What is selected, and every value, is that of float32 products, for
half of the time of the large one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.profiler import record_function

CPU_ROWS, CPU_ENTRIES = 512, 6 * 2**20
"""Most rows and entries of a block on a CPU: 24 MB of float32 stay in the cache from the product to the selection."""
DEVICE_ENTRIES = 2**28
"""Entries of a block elsewhere, where blocks only bound the memory."""

SCREEN_MIN_D_IN = 256
"""Below this width the exact values of the candidates cost more than the faster product saves."""


@dataclass
class Products:
    """The fast products of this machine: none until `startup` has tried them.

    Args:
        packed: dtypes that oneDNN multiplies with the encoder in its own layout, into which it is copied once a batch.
        screened: bfloat16 products are fast enough to be a screen for float32 ones.
    """

    packed: frozenset[torch.dtype] = frozenset()
    screened: bool = False


products = Products()


class PreActs:
    """`x @ W_enc + b_enc`, by blocks of rows, without gradient.

    Under autocast the products, and with them the values, have autocast's precision; there is no screen then.

    Args:
        x: what is encoded, `b_dec` already subtracted.
        W_enc: encoder; stored by latent it need not be copied.
        b_enc: encoder bias.
        screen: allow a screen, where the machine has one.
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
        kind = x.device.type
        autocast = torch.is_autocast_enabled(kind)
        self.dtype = torch.get_autocast_dtype(kind) if autocast else x.dtype
        self.screened = (
            (screen and products.screened and kind == "cpu")
            and self.dtype == torch.float32
            and x.shape[1] >= SCREEN_MIN_D_IN
        )

    def blocks(self) -> Iterator[tuple[int, Float[Tensor, "rows d_sae"], Float[Tensor, "rows 1"] | None]]:
        """Blocks in order of rows.

        Yields:
            The first row, the pre-activations, and for a screen their largest possible distance from the float32
            value before they were rounded to bfloat16, else None. Delete the block before asking for the next.
        """
        on_cpu = self.device.type == "cpu"
        n_rows = max(1, min(CPU_ROWS, CPU_ENTRIES // self.d_sae) if on_cpu else DEVICE_ENTRIES // self.d_sae)
        with record_function("sae::encode"):
            if self.screened:
                x, x_norm, x_lost = _rounded(self.x)
                weight, w_norm, w_lost = _rounded(self.by_latent)
                in_sums = 2**-22 * self.x.shape[1]  # float32 accumulation, there and in the exact value
                bound = w_norm.max() * (x_lost + in_sums * x_norm) + w_lost.max() * x_norm
                bound = 1.01 * (bound + 2**-8 * self.b_enc.abs().max())
            else:
                x, weight, bound = self.x.to(self.dtype), self.by_latent.to(self.dtype), None
            multiply = _product(weight, self.b_enc.to(weight.dtype), n_rows)
        for start in range(0, max(1, self.batch_size), n_rows):  # of an empty batch one empty block
            rows = slice(start, start + n_rows)
            # Nothing here holds on to the block: the next one shall get its memory, which is in the cache.
            yield start, record_function("sae::encode")(multiply)(x[rows]), None if bound is None else bound[rows]

    def minus(self, threshold: Float[Tensor, " d_sae"]) -> "PreActs":
        """Pre-activations less a threshold for each latent, which then is at 0 for all of them."""
        return PreActs(self.x, self.by_latent.T, self.b_enc - threshold.detach())

    def exact(self, rows: Int64[Tensor, " n"]) -> Float[Tensor, "n d_sae"]:
        """Whole rows, without a screen."""
        return PreActs(self.x[rows], self.by_latent.T, self.b_enc, screen=False).dense()

    def dense(self) -> Float[Tensor, "batch d_sae"]:
        """All of them, without a screen."""
        x, weight, b_enc = (tensor.to(self.dtype) for tensor in (self.x, self.by_latent, self.b_enc))
        return _product(weight, b_enc, self.batch_size)(x).to(self.x.dtype)


def _rounded(matrix: Float[Tensor, "n d"]) -> tuple[Tensor, Float[Tensor, "n 1"], Float[Tensor, "n 1"]]:
    """The matrix in bfloat16, the norm of each row, and the norm of what it lost; by rows in the cache."""
    n, d = matrix.shape
    rounded = torch.empty(n, d, dtype=torch.bfloat16, device=matrix.device)
    norm, lost = matrix.new_empty(2, n, 1).unbind()
    step = max(1, 2**18 // d)
    for start in range(0, n, step):
        rows = slice(start, start + step)
        rounded[rows] = matrix[rows]
        torch.linalg.vector_norm(matrix[rows], dim=1, keepdim=True, out=norm[rows])
        torch.linalg.vector_norm(matrix[rows] - rounded[rows], dim=1, keepdim=True, out=lost[rows])
    return rounded, norm, lost


def _product(
    weight: Float[Tensor, "d_sae d_in"], bias: Float[Tensor, " d_sae"], n_rows: int
) -> Callable[[Tensor], Tensor]:
    """`x @ weight.T + bias` as a function of x, of about n_rows rows."""
    if weight.device.type == "cpu" and weight.dtype in products.packed:
        return _packed_product(weight, bias, n_rows)
    return lambda x: torch.addmm(bias, x, weight.T)


def _packed_product(
    weight: Float[Tensor, "d_sae d_in"], bias: Float[Tensor, " d_sae"], n_rows: int
) -> Callable[[Tensor], Tensor]:
    """The same with the weight in oneDNN's layout for n_rows rows, on a CPU; see `can_pack`."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, n_rows)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


def can_pack(dtype: torch.dtype) -> bool:
    """Try on a small example whether oneDNN multiplies with packed weights of this dtype here, and accurately.

    Each dtype is asked for itself: a CPU without AVX-512 (or AVX-NE-CONVERT) packs float32 weights, and raises for
    bfloat16 ones.
    """
    random = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(shape, generator=random).to(dtype) for shape in ((8, 64), (32, 64), (32,)))
    exact = x.double() @ weight.double().T + bias.double()
    try:
        product = _packed_product(weight, bias, len(x))(x)
    except (RuntimeError, AttributeError):  # refused for this CPU, or a torch without oneDNN
        return False
    return bool((product.double() - exact).abs().max() <= 4 * torch.finfo(dtype).eps * exact.abs().max())
