"""Inspect an SAE: its weights, and what it does on activations beside what its file states."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.datamodules import ActivationDataModule
from sae_lightning.evaluators.loss_recovered import token_losses
from sae_lightning.inspection.activations import Measured, measure
from sae_lightning.inspection.hook_names import neighbours_of
from sae_lightning.inspection.readings import better_readings
from sae_lightning.inspection.report import Inspection
from sae_lightning.inspection.weights import check_weights
from sae_lightning.members import TRAINED, Member
from sae_lightning.metrics.functional import recovered_compute
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.saes.exported import ExportedSAEs

_N_TRIED = 4096
"""Activations on which other readings are tried."""
_LEAST_GAP = 0.05
"""Nats that mean ablation has to cost, for a share of them to mean anything."""


def inspect_weights(sae: SparseAutoencoder, where: str) -> Inspection:
    """Inspect an SAE without activations.

    Args:
        sae: in evaluation mode.
        where: it was read from.
    """
    return Inspection(sae, where, check_weights(sae))


def inspect_on_tensor(sae: SparseAutoencoder, where: str, x: Float[Tensor, "n width"]) -> Inspection:
    """Inspect an SAE on activations that are there.

    Args:
        sae: in evaluation mode.
        where: it was read from.
        x: raw activations; of a transcoder those that it reads and, after them, those that it answers with.
    """
    inspection = replace(inspect_weights(sae, where), measured=measure(sae, x.split(_N_TRIED)))
    return _with_readings(replace(inspection, on=f"{len(x):,} activations"), x)


def inspect_on_model(
    sae: SparseAutoencoder,
    where: str,
    datamodule: ActivationDataModule,
    hooks: tuple[str, ...] = (),
    at_hooks: Callable[..., ActivationDataModule] | None = None,
) -> Inspection:
    """Inspect an SAE on held-out activations of a model.

    Args:
        sae: in evaluation mode, on the device of the model.
        where: it was read from.
        datamodule: the activations; for a transcoder those that it reads and those that it answers with.
        hooks: that they are of, one or, of a transcoder, two; where they are known one block before and after are
            tried, if need be.
        at_hooks: returns the activations at other hooks; a ValueError says that there are none.
    """
    source = datamodule.source
    measured = measure(sae, datamodule.val_dataloader())
    if source.is_language_model and not source.no_next_token:
        measured = replace(measured, loss_recovered=_loss_recovered(datamodule, sae))
    inspection = replace(
        inspect_weights(sae, where), measured=measured, on=f"{measured.n:,} held-out activations", hooks=hooks
    )
    x = torch.cat(list(_first(datamodule.val_dataloader(), _N_TRIED))).float()
    inspection = _with_readings(inspection, x.to(sae.W_dec.device))
    if at_hooks is not None and inspection.disagreements() and not inspection.better:
        inspection = replace(inspection, other_hooks=_other_hooks(sae, hooks, at_hooks))
    return inspection


def _with_readings(inspection: Inspection, x: Tensor) -> Inspection:
    return replace(inspection, better=better_readings(inspection.sae, x[:_N_TRIED], inspection.stated_l0))


def _other_hooks(
    sae: SparseAutoencoder, hooks: tuple[str, ...], at_hooks: Callable[..., ActivationDataModule]
) -> dict[str, Measured]:
    """Measure one block before and one after, where the model has them and they have this width."""
    measured: dict[str, Measured] = {}
    for others in zip(*map(neighbours_of, hooks), strict=False):
        try:
            datamodule = at_hooks(*others)
        except ValueError:  # there is no such block, or it has another width
            continue
        measured[" -> ".join(others)] = measure(sae, _first(datamodule.val_dataloader(), _N_TRIED))
    return measured


def _loss_recovered(datamodule: ActivationDataModule, sae: SparseAutoencoder) -> float | None:
    source, target = datamodule.widths if sae.is_transcoder else ("", "")
    member = Member(TRAINED, sae.seed, source)
    module = ExportedSAEs({member: sae}, datamodule.widths, {source: target} if sae.is_transcoder else {})
    [losses] = token_losses(datamodule, module.to(sae.W_dec.device)).values()
    cross_entropy = {name: loss.compute()["ce"] for name, loss in losses.items()}
    recovered = recovered_compute(cross_entropy[member], cross_entropy["mean"], cross_entropy["clean"], _LEAST_GAP)
    return float(recovered) if torch.isfinite(recovered) else None


def _first(batches: Iterable[Tensor], n: int) -> Iterator[Tensor]:
    """Yield batches up to n activations."""
    for batch in batches:
        yield batch[:n]
        n -= len(batch)
        if n <= 0:
            return
