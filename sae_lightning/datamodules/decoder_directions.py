"""Decoder directions of SAEs as data, for a meta-SAE to train on (Leask et al. 2025, arXiv 2502.04878).

    row i = W_dec[i] / ||W_dec[i]||

There are as many samples as latents: training repeats them, each pass in another order, and validation is all of
them. A meta-SAE is to explain these directions, not to predict others. Nulls are therefore drawn once and have as many
rows: what a meta-SAE can memorise of the directions, it can memorise of nulls too.

An isotropic start depends on the seed, not on the number of latents. With the seed of the SAE a meta-SAE would start
from directions that the SAE's have not moved far from, and explain more than it should; such a fit begins with a
warning.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torch.nn.functional import normalize
from typing_extensions import override

from sae_lightning.datamodules.base import ActivationDataModule, check_batches
from sae_lightning.datamodules.rows import RowSource, RowStream, endless_order
from sae_lightning.members import Member
from sae_lightning.provenance import refuse_other_activations, sampled_fingerprint
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.saving import dead_latents
from sae_lightning.saes.transcoder import refuse_crosscoders
from sae_lightning.sources import Null, NullSource

_N_COMPARED, _SAME_COSINE = 8, 0.99
"""How many first directions of two starts are compared, and the cosine above which they are the same."""


class DirectionSource(RowSource):
    """Unit rows [n, d_in] without a model."""

    def __init__(self, directions: Float[Tensor, "n d_in"]) -> None:
        super().__init__("DecoderDirections", directions.shape[1], directions=sampled_fingerprint({"": directions}))
        self.directions = directions


class DecoderDirections(ActivationDataModule):
    """Decoder directions of trained SAEs, unit norm, on which a meta-SAE trains; validation is all of them.

    Give the meta-SAE another seed than the SAEs have: with an isotropic start, seeds decide the first directions.

    Args:
        saes: SAEs of this library or another, such as [RUN/saes/trained/0]; of several all rows together.
        drop_dead: leave out latents that were dead at the end of training: that had not fired for its
            dead_after_samples. Default: false.
        batch_size: directions in a batch of one rank, at most as many as there are.
        train_samples: directions in an epoch, all ranks together; all are seen once before one is seen again.
        nulls: null versions of the directions, by names of yours, on which a SanityPanel trains the same meta-SAEs
            again, as many rows with unit norm: RandomDirections, GaussianMatched, ShuffledDimensions. Default: none.
        seed: decides the order of the rows.

    Attributes:
        dead: [n] bool, which of the rows are of latents that were dead at the end of training, where that is known.
        base: provenance of the first of the SAEs; empty for one that is older than that.
    """

    source: DirectionSource | NullSource

    def __init__(
        self,
        saes: Sequence[str],
        drop_dead: bool = False,
        batch_size: int = 1024,
        train_samples: int = 1_536_000,
        nulls: dict[str, Null] | None = None,
        seed: int = 0,
    ) -> None:
        check_batches(batch_size, train_samples, batch_size, seed)
        directions, self.dead, self._starts, self.base = _read(saes, drop_dead)
        self.saes, self.drop_dead = list(saes), drop_dead
        if batch_size > len(directions):
            raise ValueError(
                f"batch_size={batch_size}: expected at most {len(directions)}, the decoder directions that there are"
            )
        super().__init__(batch_size, train_samples, len(directions), seed)
        source = DirectionSource(directions)
        self.source = NullSource(source, nulls, lambda n: directions) if nulls else source
        self._rows: Tensor | None = None

    @property
    def rows(self) -> Float[Tensor, "n d"]:
        """The directions and their nulls side by side, [n, d_in * number of parts], each of unit norm."""
        if self._rows is None:
            with torch.inference_mode(False), torch.no_grad():
                parts, _ = self.source.capture(self.source.directions)
                width = self.source.directions.shape[1]
                self._rows = torch.cat([normalize(part, dim=1) for part in parts.split(width, 1)], 1)
        return self._rows

    @override
    def train_stream(self) -> RowStream:
        """Return this rank's training stream, from its beginning."""
        rows = self.rows
        return RowStream(lambda numbers: rows[numbers], len(rows), self.batch_size, self.seed, *self.share)

    @override
    def val_stream(self) -> Iterator[Float[Tensor, "batch d"]]:
        """Iterate over this rank's share of all rows, the same each time."""
        own = self.rows[self.rank :: self.world_size]
        return iter(own.tensor_split(self._n_batches("val_samples", self.val_samples)))

    @override
    def calibration_sample(self, n: int) -> Float[Tensor, "n d"]:
        """Return the first n rows of the order; beyond their number they are repeated."""
        return self.rows[endless_order(len(self.rows), self.seed, 0, n)]

    @override
    def use_starting_dictionaries(self, members: Mapping[Member, SparseAutoencoder]) -> None:
        """Warn of meta-SAEs that start from the directions that one of the SAEs started from."""
        for (member, meta), (folder, start) in product(members.items(), self._starts.items()):
            if member.part:  # reads nulls, which no SAE has started from
                continue
            own = meta.W_dec_start[: len(start)].cpu()
            if torch.linalg.vecdot(own, start[: len(own)]).min() > _SAME_COSINE:
                rank_zero_warn(
                    f"the meta-SAE {member} starts from the directions that {folder} started from, and will explain "
                    "more of its directions than it should: give the meta-SAE another seed with model.seed, in a "
                    "SanityPanel model.seeds"
                )

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state, and draw nulls anew from the statistics in it."""
        super().load_state_dict(state_dict)
        self._rows = None

    @override
    def _n_batches(self, name: str, samples: int) -> int:
        """Return the number of batches; a validation omits no row, so its batches may be smaller."""
        if name == "val_samples":
            rows_per_rank = -(-samples // self.world_size)
            return -(-rows_per_rank // self.batch_size)
        return super()._n_batches(name, samples)


def _read(
    saes: Sequence[str], drop_dead: bool
) -> tuple[Float[Tensor, "n d_in"], Bool[Tensor, " n"], dict[str, Float[Tensor, "few d_in"]], Mapping[str, Any]]:
    """Return unit rows, which of them are of dead latents, by folder the first directions of the start, provenance.

    Raises:
        ValueError: if there is no folder, one comes twice, they are of different activations, or crosscoders.
    """
    if not saes or len(set(saes)) != len(saes):
        raise ValueError(f"saes={list(saes)}: expected one folder or more, each once, such as [RUN/saes/trained/0]")
    loaded = {folder: SparseAutoencoder.load(folder) for folder in saes}
    refuse_crosscoders(loaded.values(), "DecoderDirections")
    parts = {folder: _directions(Path(folder), sae, drop_dead) for folder, sae in loaded.items()}
    if len({sae.d_in for sae in loaded.values()}) > 1:
        different = ", ".join(f"{folder} has d_in={sae.d_in}" for folder, sae in loaded.items())
        raise ValueError(f"saes: {different}; expected SAEs of the same activations")
    first, *others = loaded.items()
    for folder, sae in others:
        name = f"saes: {folder} (compared with {first[0]})"
        refuse_other_activations(name, sae.provenance, first[1].provenance.get("activations"))
    directions, dead, starts = zip(*parts.values(), strict=True)
    return torch.cat(directions), torch.cat(dead), dict(zip(parts, starts, strict=True)), first[1].provenance


def _directions(
    folder: Path, sae: SparseAutoencoder, drop_dead: bool
) -> tuple[Float[Tensor, "n d_in"], Bool[Tensor, " n"], Float[Tensor, "few d_in"]]:
    """Return unit rows, which of them are of dead latents, and the first directions of the start.

    Raises:
        ValueError: if dead latents are unknown and have to be dropped, or there is a direction of zero.
    """
    W_dec = sae.W_dec.detach()  # noqa: N806
    known_dead = dead_latents(folder)
    if drop_dead and known_dead is None:
        raise ValueError(
            f"drop_dead=true, but {folder} does not say which latents are dead, as those written by `sae fit` do: set "
            "drop_dead: false, or train the SAE again"
        )
    dead = torch.zeros(len(W_dec), dtype=torch.bool)
    dead[known_dead or []] = True
    if drop_dead:
        W_dec, dead = W_dec[~dead], dead[~dead]  # noqa: N806
    if not (len(W_dec) and (W_dec.norm(dim=1) > 0).all()):
        raise ValueError(f"saes: {folder} has decoder directions that are zero, or none but of dead latents")
    return normalize(W_dec, dim=1), dead, sae.W_dec_start[:_N_COMPARED].clone()
