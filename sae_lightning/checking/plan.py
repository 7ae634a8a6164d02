"""`Plan`: what a check is going to measure, decided before it starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sae_lightning.checking.budget import Budget
from sae_lightning.checking.remake import Remake
from sae_lightning.inspection.report import Inspection
from sae_lightning.saes import SparseAutoencoder


@dataclass(frozen=True)
class CheckedSAE:
    """A published SAE that is checked.

    Args:
        name: of the reference.
        where: it was read from, as the user typed it.
        sae: itself.
        assumed: what the user said of it that its file does not.
        inspection: on held-out activations.
    """

    name: str
    where: str
    sae: SparseAutoencoder
    assumed: Mapping[str, Any]
    inspection: Inspection

    @property
    def l0(self) -> float:
        """The l0 that was measured."""
        assert self.inspection.measured is not None
        return self.inspection.measured.l0


@dataclass(frozen=True)
class Plan:
    """A check before it starts.

    Args:
        saes: that are measured in one run.
        configuration: that `sae validate` or `sae fit` runs.
        budget: for training.
        command: as the user typed it.
        text: files that were read, with the SHA-256 of their content, and one of all that was read.
        activations: what decides the activations, as the datamodule says it.
        described: how they become batches, as the datamodule says it.
        max_norm_ratio: above which activations are left out; None keeps all.
        remake: what is trained beside the one SAE; None trains nothing.
        notes: what was left out or made smaller, and why.
        part: of the activations that the SAEs read: empty where there is one, of transcoders the source.
    """

    saes: tuple[CheckedSAE, ...]
    configuration: Mapping[str, Any]
    budget: Budget
    command: str
    text: Mapping[str, Any]
    activations: Mapping[str, Any]
    described: Mapping[str, Any]
    max_norm_ratio: float | None
    remake: Remake | None = None
    notes: tuple[str, ...] = field(default=())
    part: str = ""

    @property
    def panel(self) -> Mapping[str, Any]:
        """Arguments of the panel."""
        arguments: Mapping[str, Any] = self.configuration["model"]["init_args"]
        return arguments

    @property
    def evaluators(self) -> Sequence[Mapping[str, Any]]:
        """Evaluators beside the default ones."""
        callbacks: Sequence[Mapping[str, Any]] = self.configuration["trainer"]["callbacks"]
        return callbacks

    @property
    def data(self) -> Mapping[str, Any]:
        """Section `data`."""
        data: Mapping[str, Any] = self.configuration["data"]
        return data
