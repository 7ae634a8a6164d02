"""What latents do on held-out data: how often they fire, how strongly, and on which texts from strong to weak.

The data are read twice, as by `AutoInterp`: once to see which latents fire, once for those that were chosen.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_lightning.code import Code
from sae_lightning.datamodules.text_reader import TextReader
from sae_lightning.interpretation.excerpts import Example, Excerpts
from sae_lightning.interpretation.firings import TextCodes
from sae_lightning.interpretation.strongest import top_tokens
from sae_lightning.members import Member
from sae_lightning.report.correlations import strongest_correlations
from sae_lightning.report.examples import AnyExample
from sae_lightning.saes.exported import ExportedSAEs

N_QUARTERS = 4
_EXCERPT_LENGTH = 32
N_TOP = 5
_N_OF_QUARTER = 2
_N_WORDS = 5
_N_TOGETHER = 6


@dataclass(frozen=True)
class Behaviour:
    """What one latent does.

    Args:
        strengths: largest activation in each text or image on which it fires (without these, in each sample), in raw
            units.
        top: the texts or images on which it fires most strongly, the strongest first.
        quarters: texts or images from each quarter of those on which it fires, the strongest quarter first; none
            where it fires in too few of them.
        words: tokens of the top texts on which it fires most, or what most of the top images show.
        together: places among the chosen latents of those that fire with it, and the correlations of activations.
    """

    strengths: Float[Tensor, " n"]
    top: Sequence[AnyExample] = ()
    quarters: Sequence[Sequence[AnyExample]] = ()
    words: Sequence[str] = ()
    together: Sequence[tuple[int, float]] = ()


class HeldOut(ABC):
    """Held-out data as the members of a run read it.

    Attributes:
        n: tokens, positions or samples that are read.
        n_images: in which these positions are; 0 where there are no images.
        unit: what `frequency` is a share of: `token`, `position` or `sample`.
    """

    n: int
    n_images: int = 0
    unit: ClassVar[str]

    @abstractmethod
    def frequencies(self) -> dict[Member, Float[Tensor, " d_sae"]]:
        """Return for each member the share of tokens, positions or samples on which each latent fires."""

    @abstractmethod
    def behaviours(self, chosen: Mapping[Member, Sequence[int]]) -> dict[Member, list[Behaviour]]:
        """Return for each member what each of the chosen latents does."""

    def images(self, numbers: set[int]) -> dict[int, dict[str, str]]:
        """Return the images with these numbers: a data URI as `src`, and in words what each `shows`."""
        return {}


class HeldOutText(HeldOut):
    """Excerpts of held-out text; those that repeat another count in frequencies alone.

    Args:
        datamodule: whose source reads text.
        module: whose members read, on the device of the source.
        n_tokens: tokens that are read at most.
        n_top: examples on which a latent fires most strongly.
        n_of_quarter: examples of each quarter.
    """

    unit = "token"

    def __init__(
        self,
        datamodule: Any,
        module: ExportedSAEs,
        n_tokens: int,
        n_top: int = N_TOP,
        n_of_quarter: int = _N_OF_QUARTER,
    ) -> None:
        packing = datamodule.packing
        length = min(_EXCERPT_LENGTH, packing.context_length)
        self.excerpts = Excerpts(datamodule.heldout_rows(n_tokens), length, packing.tokenizer)
        self.codes = TextCodes(TextReader(datamodule), module, module.members, self.excerpts)
        self.n = int(self.excerpts.rows.mask.sum())
        self.n_top, self.n_of_quarter = n_top, n_of_quarter

    def frequencies(self) -> dict[Member, Float[Tensor, " d_sae"]]:
        """Return shares of tokens."""
        counts = self.codes.count()
        self.n = next(iter(counts.values())).n_tokens if counts else self.n
        return {member: counts_of_member.frequency for member, counts_of_member in counts.items()}

    def behaviours(self, chosen: Mapping[Member, Sequence[int]]) -> dict[Member, list[Behaviour]]:
        """Return strengths by excerpt, and examples."""
        return {member: list(behaviours) for member, behaviours in self.each_behaviour(chosen).items()}

    def each_behaviour(self, chosen: Mapping[Member, Sequence[int]]) -> dict[Member, Iterator[Behaviour]]:
        """Read the text, and return for each member the same one latent at a time: examples of many are large."""
        firings = self.codes.firings(chosen)
        counts = self.excerpts.shown | self.excerpts.judged
        behaviours: dict[Member, Iterator[Behaviour]] = {}
        for member, latents in chosen.items():
            fires = firings[member]
            shape = (self.excerpts.ids.numel(), len(latents))
            together = strongest_correlations(fires.positions, fires.columns, fires.values, shape, _N_TOGETHER)
            keep = counts[fires.positions // self.excerpts.length]
            entries = by_column(fires.columns[keep], fires.positions[keep], fires.values[keep], n=len(latents))
            behaviours[member] = map(self._behaviour, entries, together)
        return behaviours

    def _behaviour(self, entries: Sequence[Tensor], together: Sequence[tuple[int, float]]) -> Behaviour:
        """Say what one latent does, whose entries are positions [n] and values [n]."""
        positions, values = entries
        numbers, of_number = torch.unique(positions // self.excerpts.length, return_inverse=True)
        strengths = torch.zeros(len(numbers)).scatter_reduce(0, of_number, values, "amax")
        order = strengths.argsort(descending=True, stable=True)

        def examples(which: Tensor) -> list[Example]:
            return [self._example(int(numbers[i]), positions[of_number == i], values[of_number == i]) for i in which]

        top = examples(order[: self.n_top])
        quarters = [examples(quarter) for quarter in places_in_quarters(order, self.n_of_quarter)]
        return Behaviour(strengths, top, quarters, words_of(top), together)

    def _example(self, number: int, positions: Tensor, values: Tensor) -> Example:
        activations = torch.zeros(self.excerpts.length).index_put((positions % self.excerpts.length,), values)
        return Example(self.excerpts[number], tuple(activations.tolist()))


class HeldOutSamples(HeldOut):
    """The first samples of a run's validation, where there is nothing to show of them.

    Args:
        datamodule: of activations.
        module: whose members read.
        n_samples: samples that are read; whole batches, or as many as there are.
    """

    unit = "sample"

    def __init__(self, datamodule: Any, module: ExportedSAEs, n_samples: int) -> None:
        self.datamodule, self.module, self.n_samples, self.n = datamodule, module, n_samples, 0

    def frequencies(self) -> dict[Member, Float[Tensor, " d_sae"]]:
        """Return shares of samples."""
        counts = {member: torch.zeros(sae.d_sae, dtype=torch.int64) for member, sae in self.module.members.items()}
        for codes in self._codes():
            for member, code in codes.items():
                counts[member] += code.firing_counts().cpu()
        return {member: fired.double() / max(self.n, 1) for member, fired in counts.items()}

    def behaviours(self, chosen: Mapping[Member, Sequence[int]]) -> dict[Member, list[Behaviour]]:
        """Return strengths by sample."""
        columns = {member: torch.full((sae.d_sae,), -1) for member, sae in self.module.members.items()}
        for member, latents in chosen.items():
            columns[member][list(latents)] = torch.arange(len(latents))
        entries: dict[Member, list[tuple[Tensor, Tensor, Tensor]]] = {member: [] for member in chosen}
        for codes in self._codes():
            for member, code in codes.items():
                column = columns[member][code.indices.cpu()]
                keep = (column >= 0) & (code.values != 0).cpu()
                row = self.n - code.batch_size + code.rows.cpu()[keep]
                entries[member].append((row, column[keep], code.values.float().cpu()[keep]))
        behaviours = {}
        for member, batches in entries.items():
            rows, column, values = (torch.cat(blocks) for blocks in zip(*batches, strict=True))
            shape = (self.n, len(chosen[member]))
            together = strongest_correlations(rows, column, values, shape, _N_TOGETHER)
            strengths = by_column(column, values, n=len(chosen[member]))
            behaviours[member] = [
                Behaviour(own, together=others) for (own,), others in zip(strengths, together, strict=True)
            ]
        return behaviours

    def _codes(self) -> Iterator[dict[Member, Code]]:
        self.n = 0
        for batch in self.datamodule.val_dataloader():
            self.n += len(batch)
            x = batch.float().to(self.module.device)
            members = self.module.members
            yield {member: sae.encode(self.module.activations_for(member, x)) for member, sae in members.items()}
            if self.n >= self.n_samples:
                return


def places_in_quarters(
    order: Int64[Tensor, " n"], n_of_quarter: int = _N_OF_QUARTER
) -> list[Int64[Tensor, " n_of_quarter"]]:
    """Take a few of each quarter, those of the first quarter first; none where there are too few."""
    if len(order) < N_QUARTERS * n_of_quarter:
        return []
    places = torch.linspace(0, 1, n_of_quarter + 2)[1:-1]
    return [quarter[(places * len(quarter)).long()] for quarter in order.tensor_split(N_QUARTERS)]


def words_of(examples: Sequence[Example]) -> list[str]:
    """Return the tokens of texts on which a latent fires most."""
    return [token for token, _ in top_tokens(examples, _N_WORDS)]


def by_column(columns: Int64[Tensor, " n_all"], *values: Tensor, n: int) -> list[tuple[Tensor, ...]]:
    """Split values [n_all] by the column that each belongs to, of n, in their order."""
    order = columns.argsort(stable=True)
    lengths = torch.bincount(columns, minlength=n).tolist()
    return list(zip(*(each[order].split(lengths) for each in values), strict=True))
