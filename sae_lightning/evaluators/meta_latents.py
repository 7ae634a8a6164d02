"""Are the latents of a meta-SAE those of a smaller SAE, and are these as good at explaining decoder directions?

The post that introduced meta-SAEs ("Showing SAE Latents Are Not Atomic Using Meta-SAEs", 2024; then Leask et al. 2025,
arXiv 2502.04878) replaces the decoder of one by the nearest latents of a smaller SAE, trains its encoder again, and
finds it hardly worse. Departure: here no encoder is trained. Every dictionary gets the code of orthogonal matching
pursuit, the meta-SAE's own too, so that dictionaries are compared and nothing else. Coefficients of a pursuit may be
negative, and every direction gets k, which BatchTopK deals out unevenly: compare pursuits with each other, and not with
explained_variance.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torch.nn.functional import normalize

from sae_lightning.checks import check_whole
from sae_lightning.datamodules import DecoderDirections
from sae_lightning.evaluators.base import Evaluator, data_name, datamodule_of, evaluate_across_ranks
from sae_lightning.evaluators.scores import Items, Scores
from sae_lightning.members import Member, by_part
from sae_lightning.metric import Metric, Question
from sae_lightning.metrics import best_cosine, best_match, evenly_spaced_rows, nearest_other, recovered_fraction
from sae_lightning.metrics.pursuit import pursue
from sae_lightning.provenance import refuse_other_activations
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.init import CovarianceMatched
from sae_lightning.saes.module import SAEModule

# Not a seed that somebody gives to data or SAEs.
_CHANCE_SEED = 0x3E7A_1A7E
_SAME = 0.7

MADE_OF_META_LATENTS = Question(
    "meta",
    "Are latents made of meta-latents?",
    order=110,
    title="Meta-latents",
    lead="This SAE was trained on the decoder directions of another. Floor: random directions as meta-latents.",
)
_FLOOR = "random directions with the covariance of the base's directions, in place of meta-latents"
PURSUIT = Metric(
    "pursuit_explained_variance",
    "Directions explained by pursuit with meta-latents",
    MADE_OF_META_LATENTS,
    better="higher",
    floor=_FLOOR,
    computed="explained variance of the base's directions, each reconstructed by orthogonal matching pursuit with k "
    "meta-latents",
)
BASE_NEAREST_COSINE = Metric(
    "base_nearest_cosine",
    "Nearest other direction of the base (cosine)",
    MADE_OF_META_LATENTS,
    floor="as many isotropic random directions",
    computed="mean over directions of the base of the largest cosine to another",
)


def best_cosine_metric(size: int | str) -> Metric:
    """Describe the cosine of meta-latents to the latents of a smaller SAE."""
    return Metric(
        f"meta_best_cosine_{size}",
        f"Nearest latent of the SAE with {size} to each meta-latent (cosine)",
        MADE_OF_META_LATENTS,
        floor=_FLOOR,
        computed=f"mean over meta-latents of the largest signed cosine to a decoder direction of the SAE with {size} "
        "latents",
    )


def share_above_metric(size: int | str) -> Metric:
    """Describe the share of meta-latents that are latents of a smaller SAE."""
    return Metric(
        f"meta_share_above_{_SAME:g}_{size}",
        f"Meta-latents that are latents of the SAE with {size} (cosine above {_SAME:g})",
        MADE_OF_META_LATENTS,
        floor=_FLOOR,
        computed=f"share of meta-latents whose largest signed cosine to a decoder direction of the SAE with {size} "
        f"latents is above {_SAME:g}",
    )


def pursuit_with(size: int | str) -> Metric:
    """Describe the pursuit with the latents of a smaller SAE that are nearest to the meta-latents."""
    return Metric(
        f"pursuit_explained_variance_{size}",
        f"Directions explained by pursuit with latents of the SAE with {size}",
        MADE_OF_META_LATENTS,
        better="higher",
        floor=_FLOOR,
        computed="explained variance of the base's directions, each reconstructed by orthogonal matching pursuit with "
        f"k of those latents of the SAE with {size} that are nearest to the meta-latents",
    )


class MetaLatents(Evaluator):
    """Compare the latents of a meta-SAE with those of smaller SAEs of the same activations.

    For each smaller SAE, of M latents:

    - meta_best_cosine_M: mean over meta-latents of the largest signed cosine to a decoder direction of it.
    - meta_share_above_0.7_M: share of meta-latents for which that cosine is above 0.7, "the same latent".
    - pursuit_explained_variance_M: of the base's directions, explained by orthogonal matching pursuit with the latents
      that are nearest to the meta-latents in place of these; one that is nearest to several is taken once.

    And without any:

    - pursuit_explained_variance: the same pursuit with the meta-latents themselves.
    - base_nearest_cosine: mean over directions of the base of the largest cosine to another, as base/0: duplicates are
      easily explained. Its floor is isotropic directions.

    Other floors: those of one draw of random directions with the covariance of the base's in place of the meta-latents
    of each SAE, as many as it has.

    Args:
        smaller: the smaller SAEs, of this library or another, such as [RUN/saes/trained/0], each of another number of
            latents.
        k: directions in a pursuit, from 1 to d_in; as a rule that of the meta-SAE.
        n_rows: directions of the base that are pursued, evenly spaced, or as many as there are; 2 or more.
        every_n_validations: the last validation always counts; 0 for that one alone.
    """

    declares = (PURSUIT, BASE_NEAREST_COSINE, best_cosine_metric("M"), share_above_metric("M"), pursuit_with("M"))
    compares_members = True

    def __init__(
        self, smaller: Sequence[str] = (), k: int = 4, n_rows: int = 4096, every_n_validations: int = 0
    ) -> None:
        super().__init__(every_n_validations)
        check_whole(1, k=k, hint="as a rule the k of the meta-SAE")
        check_whole(2, n_rows=n_rows, hint="since one direction has no variance to explain")
        self.smaller, self.k, self.n_rows = list(smaller), k, n_rows
        self._latents: dict[int, Tensor] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the data are decoder directions, and read the smaller SAEs."""
        super().setup(trainer, pl_module, stage)
        datamodule = datamodule_of(trainer)
        if not isinstance(datamodule, DecoderDirections):
            raise ValueError(
                f"MetaLatents needs a meta-SAE, and data={data_name(trainer)} are not the decoder directions of "
                "an SAE: take DecoderDirections, or leave out MetaLatents"
            )
        self._datamodule = datamodule
        assert isinstance(pl_module, SAEModule)
        sae = next(iter(pl_module.members.values()))
        if self.k > min(sae.d_in, sae.d_sae):
            raise ValueError(
                f"MetaLatents: k={self.k}: expected at most {min(sae.d_in, sae.d_sae)} for {sae.d_sae} meta-latents in "
                f"{sae.d_in} dimensions; more explain everything"
            )
        seeds = [sae.seed for sae in pl_module.members.values()]
        self._latents = _read(self.smaller, seeds, sae.d_in, datamodule.base)

    def scores(self, trainer: Trainer, module: SAEModule, stage: str) -> Iterator[Scores]:
        """Measure each member, and chance in its place."""
        firsts = {part: members[0] for part, members in by_part(module.members).items()}
        rows = {part: module.activations_for(first, self._datamodule.rows) for part, first in firsts.items()}
        members = evaluate_across_ranks(
            module.members, lambda member, sae: self._measure(rows[member.part], sae, sae.W_dec.detach())
        )
        # Chance takes the place of a member: its bias, its number of latents, and nothing that it has learned.
        chance = evaluate_across_ranks(
            module.members,
            lambda member, sae: self._measure(rows[member.part], sae, _random_directions(sae, rows[member.part])),
        )
        for metric in next(iter(chance.values())):
            values = {member: measured[metric] for member, measured in members.items()}
            yield _score(metric, values, {member: measured[metric] for member, measured in chance.items()})
        isotropic = torch.randn(rows[""].shape, generator=_generator())
        yield Scores(
            BASE_NEAREST_COSINE,
            {Member("base", 0, part): nearest_other(directions).double().mean() for part, directions in rows.items()},
            nearest_other(isotropic).double().mean(),
        )

    def _measure(self, rows: Tensor, sae: SparseAutoencoder, W_dec: Tensor) -> dict[Metric, Tensor]:  # noqa: N803
        """Return cosines and shares as numbers; of a pursuit, the error and the deviation of each row [2, n]."""
        is_finite = bool(W_dec.isfinite().all() & sae.b_dec.isfinite().all())
        W_dec = W_dec.nan_to_num()  # noqa: N806 - no pursuit exists with numbers that are none
        measured = {PURSUIT: self._pursue(rows, sae, W_dec)}
        for size, latents in self._latents.items():
            latents = latents.to(W_dec.device)
            best = best_cosine(W_dec, latents)
            measured[best_cosine_metric(size)] = best.double().mean().cpu()
            measured[share_above_metric(size)] = recovered_fraction(best, _SAME).cpu()
            nearest = latents[best_match(W_dec, latents).unique()]
            measured[pursuit_with(size)] = self._pursue(rows, sae, nearest)
        return measured if is_finite else {metric: values * torch.nan for metric, values in measured.items()}

    def _pursue(self, rows: Tensor, sae: SparseAutoencoder, directions: Tensor) -> Float[Tensor, "2 n"]:
        x = evenly_spaced_rows(rows, self.n_rows).double()
        b_dec = sae.b_dec.detach().nan_to_num().cpu().double() / float(sae.input_scale)  # in the units of the rows
        x_hat, _ = pursue(x - b_dec, normalize(directions.cpu(), dim=1), min(self.k, len(directions)))
        return torch.stack([(x - b_dec - x_hat).square().sum(1), (x - x.mean(0)).square().sum(1)])


def _score(metric: Metric, members: Mapping[Member, Tensor], floors: Mapping[Member, Tensor]) -> Scores:
    """Take numbers as they are; of errors and deviations what is explained, with the rows as items."""
    if not any(values.dim() for values in members.values()):
        return Scores(metric, members, floors)
    items = Items(
        {member: deviation - error for member, (error, deviation) in members.items()},
        {member: deviation for member, (_, deviation) in members.items()},
    )
    explained = {member: 1 - error.sum() / deviation.sum() for member, (error, deviation) in members.items()}
    floor = {member: 1 - error.sum() / deviation.sum() for member, (error, deviation) in floors.items()}
    return Scores(metric, explained, floor, items)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(_CHANCE_SEED)


def _random_directions(sae: SparseAutoencoder, rows: Tensor) -> Tensor:
    return CovarianceMatched().directions(sae.d_sae, sae.d_in, _generator(), rows).to(sae.W_dec)


def _read(smaller: Sequence[str], seeds: Sequence[int], d_in: int, base: Mapping[str, Any]) -> dict[int, Tensor]:
    """Return decoder directions by their number."""
    latents: dict[int, Tensor] = {}
    for folder in smaller:
        sae = SparseAutoencoder.load(Path(folder))
        W_dec = sae.W_dec.detach()  # noqa: N806
        if sae.seed in seeds:
            rank_zero_warn(
                f"MetaLatents: {folder} has seed {sae.seed}, and so has a meta-SAE: with an isotropic start both begin "
                "with the same directions, and resemble each other for no other reason; give the meta-SAE another seed"
            )
        if sae.d_in != d_in:
            raise ValueError(
                f"MetaLatents: smaller: {folder} has d_in={sae.d_in}, and the directions of the base {d_in}: "
                "expected SAEs of the same activations"
            )
        refuse_other_activations(f"MetaLatents: smaller: {folder}", sae.provenance, base.get("activations"))
        if len(W_dec) in latents:
            raise ValueError(
                f"MetaLatents: smaller={list(smaller)}: two have {len(W_dec)} latents, by which metrics are named; "
                "give one of each size"
            )
        latents[len(W_dec)] = W_dec
    return latents
