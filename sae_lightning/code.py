"""`Code`: the latents of a batch, in CSR form.

Every encoder returns a `Code` and every decoder takes one. Where k of `d_sae` latents are active, everything downstream
(reconstruction, gradients, firing counts, l0, evaluators) costs in proportion to the active entries, and no dense
`[batch, d_sae]` tensor is kept.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class RowNorm:
    """What each activation was brought to, which its reconstruction is brought back by: x = scale * x' + shift.

    Args:
        shift: [batch, 1] mean over the dimensions of each activation, or zeros.
        scale: [batch, 1] what it was divided by.
    """

    shift: Tensor
    scale: Tensor

    def undo(self, x: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch d_in"]:
        """Return normalised activations, or their reconstructions, in raw units."""
        return x * self.scale + self.shift

    def take(self, rows: Int64[Tensor, " n"]) -> "RowNorm":
        """Return those of these rows, in this order."""
        return RowNorm(self.shift[rows], self.scale[rows])


@dataclass(frozen=True)
class Code:
    """Sparse latents of a batch; row b owns the entries `offsets[b]:offsets[b + 1]`.

    Explicit zeros are allowed (a TopK row with fewer than k positive entries has them) and never count as firing. The
    order of the entries within a row has no meaning; a latent appears at most once in a row.

    Args:
        values: [nnz] latents, floating point.
        indices: [nnz] int64, the latent that each entry belongs to.
        offsets: [batch + 1] int64, where each row starts, and the number of entries.
        d_sae: number of latents.
        shape: leading shape [...] of the activations [..., d_in] whose latents these are; None for [batch].
        row_norm: how each activation was normalised before it was encoded; None where it was not.
    """

    values: Tensor
    indices: Tensor
    offsets: Tensor
    d_sae: int
    shape: tuple[int, ...] | None = None
    row_norm: "RowNorm | None" = None
    _derived: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def from_rows(cls, values: Float[Tensor, "batch k"], indices: Int64[Tensor, "batch k"], d_sae: int) -> "Code":
        """Return the code with these k >= 1 entries in every row."""
        batch, k = values.shape
        offsets = torch.arange(0, batch * k + 1, k, device=values.device)
        return cls(values.reshape(-1), indices.reshape(-1), offsets, d_sae)

    @classmethod
    def from_flat(cls, values: Float[Tensor, " nnz"], flat: Int64[Tensor, " nnz"], batch: int, d_sae: int) -> "Code":
        """Return the code with entries at these positions of the flattened `[batch, d_sae]`, given in order of rows."""
        rows = torch.div(flat, d_sae, rounding_mode="floor")
        return cls.from_entries(values, rows, flat - rows * d_sae, batch, d_sae)

    @staticmethod
    def from_entries(
        values: Float[Tensor, " nnz"],
        rows: Int64[Tensor, " nnz"],
        indices: Int64[Tensor, " nnz"],
        batch: int,
        d_sae: int,
    ) -> "Code":
        """Return the code with these entries, given in order of rows."""
        offsets = _zeros(batch + 1, values)
        torch.cumsum(torch.bincount(rows, minlength=batch), 0, out=offsets[1:])
        code = Code(values, indices, offsets, d_sae)
        code._derived["rows"] = rows
        return code

    @classmethod
    def from_dense(cls, dense: Float[Tensor, "batch d_sae"]) -> "Code":
        """Return the code of the non-zero entries of a dense matrix; for tests and small cases."""
        flat = dense.reshape(-1).nonzero()[:, 0]
        return cls.from_flat(dense.reshape(-1)[flat], flat, *dense.shape)

    @staticmethod
    def join(codes: Sequence["Code"]) -> "Code":
        """Return a code with the rows of all codes, in order."""
        lengths = torch.cat([code.offsets.diff() for code in codes])
        values, indices = (torch.cat([getattr(code, name) for code in codes]) for name in ("values", "indices"))
        norms = [code.row_norm for code in codes if code.row_norm is not None]
        shift, scale = (
            torch.cat([getattr(norm, name) for norm in norms]) if norms else None for name in ("shift", "scale")
        )
        row_norm = RowNorm(shift, scale) if shift is not None and scale is not None else None
        return Code(values, indices, F.pad(lengths.cumsum(0), (1, 0)), codes[0].d_sae, row_norm=row_norm)

    @property
    def batch_size(self) -> int:
        """Number of rows."""
        return self.offsets.numel() - 1

    @property
    def leading(self) -> tuple[int, ...]:
        """Leading shape of the activations whose latents these are, with as many elements as there are rows."""
        return (self.batch_size,) if self.shape is None else self.shape

    def with_leading(self, shape: Sequence[int]) -> "Code":
        """Return the same rows as latents of activations of this leading shape."""
        return self._with("shape", tuple(shape))

    def with_row_norm(self, row_norm: RowNorm | None) -> "Code":
        """Return the same latents as those of activations that were normalised so."""
        return self._with("row_norm", row_norm)

    def _with(self, name: str, value: Any) -> "Code":  # noqa: ANN401
        code = copy.copy(self)
        code.__dict__[name] = value
        return code

    @property
    def nnz(self) -> int:
        """Number of stored entries, explicit zeros included."""
        return self.values.numel()

    @property
    def rows(self) -> Tensor:
        """[nnz] int64, the row of each entry."""
        if "rows" not in self._derived:
            rows = torch.arange(self.batch_size, device=self.indices.device)
            self._derived["rows"] = torch.repeat_interleave(rows, self.offsets.diff(), output_size=self.nnz)
        return self._derived["rows"]

    @property
    def by_latent(self) -> tuple[Tensor, Tensor]:
        """The transposed order: [nnz] a permutation that sorts entries by latent, [d_sae + 1] where each latent starts.

        Within a latent entries stay in order of rows. Gradients of the weights sum over it.
        """
        if "by_latent" not in self._derived:
            self._derived["by_latent"] = _by_latent(self)
        return self._derived["by_latent"]

    def with_values(self, values: Float[Tensor, " nnz"]) -> "Code":
        """Return the same entries with other values; both codes share what either derives from the entries."""
        code = Code(values, self.indices, self.offsets, self.d_sae, self.shape, self.row_norm)
        code.__dict__["_derived"] = self._derived
        return code

    def where(self, keep: Bool[Tensor, " nnz"]) -> "Code":
        """Return the entries for which `keep` is true."""
        kept = keep.nonzero()[:, 0]  # once; indexing with the mask would search it for each of the three tensors
        values, rows, indices = (tensor.index_select(0, kept) for tensor in (self.values, self.rows, self.indices))
        code = self.from_entries(values, rows, indices, self.batch_size, self.d_sae).with_row_norm(self.row_norm)
        return code if self.shape is None else code.with_leading(self.shape)

    def take(self, rows: Int64[Tensor, " n"]) -> "Code":
        """Return these rows, in this order; a row may be taken several times."""
        lengths = self.offsets.diff()[rows]
        offsets = F.pad(lengths.cumsum(0), (1, 0))
        shifts = torch.repeat_interleave(self.offsets[rows] - offsets[:-1], lengths)
        entries = shifts + torch.arange(len(shifts), device=shifts.device)
        row_norm = None if self.row_norm is None else self.row_norm.take(rows)
        return Code(self.values[entries], self.indices[entries], offsets, self.d_sae, row_norm=row_norm)

    def to_dense(self) -> Float[Tensor, "*leading d_sae"]:
        """Return dense latents of the leading shape; for tests and small cases."""
        dense = self.values.new_zeros(self.batch_size, self.d_sae)
        return dense.index_put((self.rows, self.indices), self.values).reshape(*self.leading, self.d_sae)

    def of_latents(self, vector: Float[Tensor, " d_sae"]) -> Float[Tensor, " nnz"]:
        """Return for each entry the value that the vector has for its latent; differentiable."""
        return vector[self.indices]

    def columns(self, latents: Int64[Tensor, " n"]) -> Float[Tensor, "batch n"]:
        """Return the dense values of a few latents, each named once."""
        place = torch.full((self.d_sae,), -1, device=self.indices.device)
        place[latents] = torch.arange(len(latents), device=place.device)
        column = place[self.indices]
        named = column >= 0
        dense = self.values.new_zeros(self.batch_size, len(latents))
        return dense.index_put((self.rows[named], column[named]), self.values[named])

    def sum_by_latent(self, values: Tensor) -> Tensor:
        """Return the sums [d_sae] of values [nnz] over the entries of each latent; the same bits every time."""
        if values.is_cuda and values.is_floating_point():  # there index_add_ adds in any order
            return sum_in_order(values, *self.by_latent)
        return values.new_zeros(self.d_sae).index_add_(0, self.indices, values)

    def take_from(self, dense: Float[Tensor, "batch d_sae"]) -> Float[Tensor, " nnz"]:
        """Return the values [nnz] that a dense matrix has at the entries of this code."""
        return dense[self.rows, self.indices]

    def l0(self) -> Int64[Tensor, " batch"]:
        """Return the number of non-zero latents in each row."""
        return _zeros(self.batch_size, self.values).index_add_(0, self.rows, (self.values != 0).long())

    def firing_counts(self) -> Int64[Tensor, " d_sae"]:
        """Return the number of rows in which each latent is non-zero."""
        return self.sum_by_latent((self.values != 0).long())


class FullCode(Code):
    """A code with an entry for every latent of every row, zero or not: a dense matrix.

    Where a tenth of all latents or more is active (an untrained ReLU SAE has half of them), storing an index with each
    active one takes more time and memory than storing all. Indices and offsets are made only where they are read.

    Args:
        dense: [batch, d_sae] values.
    """

    def __init__(self, dense: Float[Tensor, "batch d_sae"]) -> None:
        self.__dict__.update(values=dense.reshape(-1), d_sae=dense.shape[1], _derived={})

    @cached_property
    def indices(self) -> Tensor:
        """[nnz] int64, the latent that each entry belongs to."""
        return torch.arange(self.d_sae, device=self.values.device).repeat(self.batch_size)

    @cached_property
    def offsets(self) -> Tensor:
        """[batch + 1] int64, where each row starts, and the number of entries."""
        return torch.arange(0, self.nnz + 1, self.d_sae, device=self.values.device)

    @property
    def batch_size(self) -> int:
        """Number of rows."""
        return self.nnz // self.d_sae

    def with_values(self, values: Float[Tensor, " nnz"]) -> "FullCode":
        """Return the same entries with other values."""
        code = cast("FullCode", FullCode(values.view(-1, self.d_sae)).with_row_norm(self.row_norm))
        return code if self.shape is None else cast("FullCode", code.with_leading(self.shape))

    def to_dense(self) -> Float[Tensor, "*leading d_sae"]:
        """Return the matrix, of the leading shape and not copied."""
        return self.values.view(*self.leading, self.d_sae)

    def columns(self, latents: Int64[Tensor, " n"]) -> Float[Tensor, "batch n"]:
        """Return the dense values of a few latents, each named once."""
        return self.values.view(-1, self.d_sae)[:, latents]

    def of_latents(self, vector: Float[Tensor, " d_sae"]) -> Float[Tensor, " nnz"]:
        """Return for each entry the value that the vector has for its latent; differentiable."""
        return vector.expand(self.batch_size, -1).reshape(-1)

    def sum_by_latent(self, values: Tensor) -> Tensor:
        """Return the sums [d_sae] of values [nnz] over the entries of each latent."""
        return values.view(-1, self.d_sae).sum(0)

    def firing_counts(self) -> Int64[Tensor, " d_sae"]:
        """Return the number of rows in which each latent is non-zero."""
        return (self.values.view(-1, self.d_sae) != 0).sum(0)

    def take_from(self, dense: Float[Tensor, "batch d_sae"]) -> Float[Tensor, " nnz"]:
        """Return all values [nnz] of a dense matrix."""
        return dense.reshape(-1)


def sum_in_order(
    values: Float[Tensor, " nnz"], order: Int64[Tensor, " nnz"], starts: Int64[Tensor, " starts"]
) -> Float[Tensor, " n"]:
    """Return the sums of values over the groups that `Code.by_latent` makes of them, without atomics."""
    return torch.segment_reduce(values[order], "sum", offsets=starts, axis=0)


def _by_latent(code: Code) -> tuple[Tensor, Tensor]:
    """Return the permutation and the starts of `Code.by_latent`."""
    if code.indices.device.type == "cpu":
        # SciPy transposes by counting entries per latent, up to 16 times as fast as torch's sort: a matrix that holds
        # the positions of the entries, once transposed, holds their permutation.
        from scipy.sparse import csr_array

        places = np.arange(code.nnz)
        by_row = csr_array((places, code.indices.numpy(), code.offsets.numpy()), shape=(code.batch_size, code.d_sae))
        by_column = by_row.tocsc()
        return torch.from_numpy(by_column.data), torch.from_numpy(by_column.indptr).long()
    latents, order = torch.sort(code.indices, stable=True)
    return order, torch.searchsorted(latents, torch.arange(code.d_sae + 1, device=latents.device))


def _zeros(n: int, like: Tensor) -> Tensor:
    return torch.zeros(n, dtype=torch.int64, device=like.device)
