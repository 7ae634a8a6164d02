"""Which latents fire where in a text, in two passes, so that the codes of all latents are never held at a time.

The first pass counts how often each latent fires, the second keeps the entries of few chosen ones: memory is 20 bytes
for each time that a chosen latent fires.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_lightning.code import Code
from sae_lightning.datamodules.text_reader import TextReader
from sae_lightning.distributed import all_gather_object, all_reduce_sum, rank, world_size
from sae_lightning.interpretation.excerpts import Excerpts
from sae_lightning.members import Member
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.module import SAEModule
from sae_lightning.sources import TokenBatch


@dataclass(frozen=True)
class Counts:
    """How often the latents of one member fire.

    Args:
        tokens: [d_sae] tokens on which each fires.
        shown: [d_sae] excerpts that may be shown and on which it fires.
        judged: [d_sae] excerpts that may be judged and on which it fires.
        n_tokens: valid tokens, in all.
    """

    tokens: Int64[Tensor, " d_sae"]
    shown: Int64[Tensor, " d_sae"]
    judged: Int64[Tensor, " d_sae"]
    n_tokens: int

    @property
    def frequency(self) -> Float[Tensor, " d_sae"]:
        """Share of tokens on which each latent fires."""
        return self.tokens.double() / max(self.n_tokens, 1)


@dataclass(frozen=True)
class Firings:
    """Where the chosen latents of one member fire.

    Args:
        positions: [n] number of the token, counted over all rows.
        columns: [n] place of the latent among the chosen ones.
        values: [n] its activation.
    """

    positions: Int64[Tensor, " n"]
    columns: Int64[Tensor, " n"]
    values: Float[Tensor, " n"]

    def activations(self, column: int, n_tokens: int) -> Float[Tensor, " n_tokens"]:
        """Return the activations of one latent on all tokens of the text."""
        own = self.columns == column
        return torch.zeros(n_tokens).index_put((self.positions[own],), self.values[own])


class TextCodes:
    """Codes of members on the text of excerpts; ranks share the forwards of the model.

    Args:
        reader: whose model reads the text.
        module: whose members encode.
        members: which of them.
        excerpts: the text.
    """

    def __init__(
        self, reader: TextReader, module: SAEModule, members: Mapping[Member, SparseAutoencoder], excerpts: Excerpts
    ) -> None:
        self.source, self.batch_size = reader.source, reader.batch_size
        self.module, self.members, self.excerpts = module, members, excerpts

    def __iter__(self) -> Iterator[tuple[Int64[Tensor, " n"], dict[Member, Code]]]:
        """Yield the numbers of valid tokens, and the code of each member on them, for each forward of this rank."""
        rows = self.excerpts.rows
        parts = list(zip(rows.input_ids.split(self.batch_size), rows.mask.split(self.batch_size), strict=True))
        for number in range(rank(), len(parts), world_size()):
            activations, mask = self.source.capture(TokenBatch(*parts[number]))
            begin = number * self.batch_size * rows.input_ids.shape[1]
            positions = begin + mask.flatten().nonzero()[:, 0]
            x = activations[mask].float().to(self.module.device)
            codes = {member: sae.encode(self.module.activations_for(member, x)) for member, sae in self.members.items()}
            # Of an SAE that has diverged no latent fires; nan is not 0.
            finite = {member: code.where(code.values.isfinite()) for member, code in codes.items()}
            yield positions.to(self.module.device), finite

    def count(self) -> dict[Member, Counts]:
        """Count in a first pass how often each latent fires, on all ranks together."""
        (counts,) = self.count_all([self.excerpts])
        return counts

    def count_all(self, draws: Sequence[Excerpts]) -> list[dict[Member, Counts]]:
        """Count the same in one pass for several choices of what is shown and what is judged.

        Args:
            draws: the text, with choices of its own.
        """
        device, length = self.module.device, self.excerpts.length
        kinds = torch.stack([kind for excerpts in draws for kind in (excerpts.shown, excerpts.judged)]).to(device)
        totals = {
            member: torch.zeros(1 + len(kinds), sae.d_sae, dtype=torch.int64, device=device)
            for member, sae in self.members.items()
        }
        read = torch.zeros(1, dtype=torch.int64, device=device)  # without massive activations that are left out
        for positions, codes in self:
            read += len(positions)
            # An excerpt counts once for a latent, however many of its tokens make it fire.
            numbers, excerpt_of_row = torch.unique_consecutive(positions // length, return_inverse=True)
            for member, code in codes.items():
                fires = code.values != 0
                fired = torch.zeros(len(numbers), code.d_sae, dtype=torch.bool, device=device)
                fired[excerpt_of_row[code.rows[fires]], code.indices[fires]] = True
                totals[member][0] += code.firing_counts()
                for kind in range(len(kinds)):
                    totals[member][kind + 1] += fired[kinds[kind, numbers]].sum(0)
        n_tokens = int(all_reduce_sum(read))
        reduced = {member: all_reduce_sum(total).cpu() for member, total in totals.items()}
        return [
            {
                member: Counts(total[0], total[1 + 2 * draw], total[2 + 2 * draw], n_tokens)
                for member, total in reduced.items()
            }
            for draw in range(len(draws))
        ]

    def firings(self, chosen: Mapping[Member, Sequence[int]]) -> dict[Member, Firings]:
        """Collect in a second pass where the chosen latents of each member fire, on all ranks together."""
        # The place of each latent among the chosen ones, -1 for the others.
        columns = {
            member: torch.full((sae.d_sae,), -1, device=self.module.device) for member, sae in self.members.items()
        }
        for member, latents in chosen.items():
            columns[member][list(latents)] = torch.arange(len(latents), device=self.module.device)
        firings: dict[Member, list[Firings]] = {member: [] for member in self.members}
        for positions, codes in self:
            for member, code in codes.items():
                column = columns[member][code.indices]
                keep = (column >= 0) & (code.values != 0)
                entries = (positions[code.rows[keep]], column[keep], code.values[keep].float())
                firings[member].append(Firings(*(entry.cpu() for entry in entries)))
        ranks = all_gather_object(firings)
        return {member: _join([part for rank_firings in ranks for part in rank_firings[member]]) for member in firings}


def _join(parts: Sequence[Firings]) -> Firings:
    return Firings(
        torch.cat([part.positions for part in parts]),
        torch.cat([part.columns for part in parts]),
        torch.cat([part.values for part in parts]),
    )
