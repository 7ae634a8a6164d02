"""`LatentMesh`: which latents of a dictionary this rank has, and what it exchanges with the ranks that have the others.

    x_hat = sum over ranks of (own latents) W_dec[own] + b_dec

Rows of `W_dec` and columns of `W_enc` are dealt out over the dimension "latents" of a device mesh. All ranks of it see
the same batch. What goes through a latent is then local; a sum over latents is one reduction, whose gradient is the
identity, since every rank computes the same loss from it; and what all ranks share (`b_dec`) has the sum of their
gradients. On one rank every operation returns its argument.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Int64
from torch import Tensor
from torch.autograd import Function
from torch.distributed.device_mesh import DeviceMesh

from sae_lightning.code import Code

LATENTS = "latents"
"""Name of the dimension of the device mesh."""


class LatentMesh:
    """The ranks that share one dictionary, each with a run of neighbours out of every group of its latents.

    Args:
        groups: number of latents in each group, in order; a rank has a part of each, so that every prefix of groups is
            shared out too.
        mesh: of one dimension; None for this rank alone.

    Attributes:
        rank: number of this process among them, from 0.
        size: number of ranks.
        own: for each group the latents of this rank.

    Raises:
        ValueError: if a rank would have no latent.
    """

    def __init__(self, groups: Sequence[int] = (), mesh: DeviceMesh | None = None) -> None:
        self.groups, self.mesh = tuple(groups), mesh
        self.rank, self.size = (0, 1) if mesh is None else (mesh.get_local_rank(), mesh.size())
        self.own = self.own_of(self.rank)
        if groups and not all(any(map(len, self.own_of(rank))) for rank in range(self.size)):
            raise ValueError(
                f"d_sae={sum(groups)} latents in groups of {list(groups)} on {self.size} ranks: one has none, "
                "take fewer ranks"
            )

    @property
    def group(self) -> Any:  # noqa: ANN401
        """The process group; None for this rank alone."""
        return None if self.mesh is None else self.mesh.get_group()

    # Which latents
    # ----------------------------------------------------------------------------------------------------------------

    def own_of(self, rank: int) -> list[range]:
        """Return for each group the latents of a rank: parts are equal, rounded up, and the last ranks have the rest.

        >>> LatentMesh([6, 4]).own_of(0)
        [range(0, 6), range(6, 10)]
        """
        parts, begin = [], 0
        for n in self.groups:
            share = -(-n // self.size)
            parts.append(range(begin + min(n, rank * share), begin + min(n, (rank + 1) * share)))
            begin += n
        return parts

    def numbers_of(self, rank: int) -> Int64[Tensor, " n_own"]:
        """Return the latents of a rank in order."""
        return torch.cat([torch.arange(part.start, part.stop) for part in self.own_of(rank)])

    @property
    def own_ends(self) -> list[int]:
        """One past the last latent of each group, counted among those of this rank."""
        return list(accumulate(map(len, self.own)))

    def cut(self, tensor: Tensor, dim: int = 0) -> Tensor:
        """Return a copy of what a tensor of all latents has of those of this rank.

        Args:
            tensor: with the latents along `dim`.
            dim: the copy is contiguous once this dimension is the first.
        """
        rows = tensor.movedim(dim, 0)
        return rows[self.numbers_of(self.rank).to(tensor.device)].movedim(0, dim)

    def whole(self, tensor: Tensor, dim: int = 0, everywhere: bool = False) -> Tensor:
        """Return the tensor of all latents, on the CPU; a collective call, which takes one more share on a device.

        Args:
            tensor: with the latents of this rank along `dim`.
            dim: as for `cut`.
            everywhere: on all ranks; otherwise on the first, and an empty tensor on the others.

        Returns:
            The tensor itself where this rank is alone.
        """
        if self.size == 1:
            return tensor
        rows = tensor.detach().movedim(dim, 0).contiguous()
        is_kept = everywhere or self.rank == 0
        joined = rows.new_empty((sum(self.groups), *rows.shape[1:]) if is_kept else 0, device="cpu")
        for rank in range(self.size):
            numbers = self.numbers_of(rank)
            part = rows if rank == self.rank else rows.new_empty((len(numbers), *rows.shape[1:]))
            dist.broadcast(part, group=self.group, group_src=rank)
            if is_kept:
                joined[numbers] = part.cpu()
        return joined.movedim(0, dim) if is_kept else joined

    # Exchanges
    # ----------------------------------------------------------------------------------------------------------------

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum over ranks; a loss that all ranks compute from it gives each its own gradient."""
        return x if self.size == 1 else _Sum.apply(x, self.group)

    def shared(self, x: Tensor) -> Tensor:
        """Return the same tensor, whose gradient is the sum of those of all ranks."""
        return x if self.size == 1 else _Shared.apply(x, self.group)

    def min(self, x: Tensor) -> Tensor:
        """Return the smallest over ranks of each entry; no gradient."""
        return x if self.size == 1 else _reduce(x, dist.ReduceOp.MIN, self.group)

    def gather(self, x: Tensor) -> Tensor:
        """Return the tensors of all ranks, of one shape, as [size, ...]; no gradient."""
        if self.size == 1:
            return x[None]
        gathered = x.new_empty((self.size, *x.shape))
        dist.all_gather(list(gathered.unbind()), x.contiguous(), group=self.group)
        return gathered

    # Codes
    # ----------------------------------------------------------------------------------------------------------------

    def join(self, code: Code) -> Code:
        """Return the code over all latents from those of each rank's own; the same on all ranks."""
        if self.size == 1:
            return code
        d_sae = sum(self.groups)
        flat = code.rows * d_sae + self.numbers_of(self.rank).to(code.indices.device)[code.indices]
        counts = self.gather(torch.tensor(code.nnz, device=flat.device))
        longest = int(counts.max())
        values, places = (self.gather(F.pad(own, (0, longest - code.nnz))) for own in (code.values, flat))
        is_entry = torch.arange(longest, device=flat.device) < counts[:, None]
        places, order = places[is_entry].sort()
        joined = Code.from_flat(values[is_entry][order], places, code.batch_size, d_sae)
        return joined.with_row_norm(code.row_norm)

    def own_part(self, code: Code) -> Code:
        """Return of a code over all latents the entries of those of this rank, numbered among these."""
        if self.size == 1:
            return code
        numbers = self.numbers_of(self.rank).to(code.indices.device)
        place = torch.full((sum(self.groups),), -1, device=numbers.device)
        place[numbers] = torch.arange(len(numbers), device=numbers.device)
        kept = code.where(place[code.indices] >= 0)
        return Code(kept.values, place[kept.indices], kept.offsets, len(numbers))


def _reduce(x: Tensor, operation: dist.ReduceOp.RedOpType, group: dist.ProcessGroup) -> Tensor:
    reduced = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(reduced, operation, group)
    return reduced


class _Sum(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        return _reduce(x, dist.ReduceOp.SUM, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class _Shared(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _reduce(grad, dist.ReduceOp.SUM, ctx.group), None


ALONE = LatentMesh()
"""This rank alone."""
