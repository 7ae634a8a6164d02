"""`ExportedSAEs`: SAEs of a finished run beside one another, as they stood in training."""

from collections.abc import Iterable, Mapping
from typing import cast

from torch import Tensor, nn
from typing_extensions import override

from sae_lightning.members import Member
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.data import columns_by_part
from sae_lightning.saes.module import SAEModule
from sae_lightning.saes.transcoder import part_read_by


class ExportedSAEs(SAEModule):
    """Members that were loaded, each of which reads its part of the activations.

    Args:
        saes: one or more.
        widths: widths of the parts of an activation, by name; empty where it has none.
        targets: of transcoders, the part with which they answer by the part that they read.
    """

    def __init__(
        self,
        saes: Mapping[Member, SparseAutoencoder],
        widths: Mapping[str, int],
        targets: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._members, self.targets = tuple(saes), dict(targets or {})
        self._columns = columns_by_part(widths)
        self.saes = nn.ModuleList(saes.values())

    @property
    @override
    def members(self) -> Mapping[Member, SparseAutoencoder]:
        return dict(zip(self._members, cast("Iterable[SparseAutoencoder]", self.saes), strict=True))

    @override
    def activations_for(self, member: Member, activations: Tensor) -> Tensor:
        if not self._columns:
            return activations
        return activations[..., self._columns[part_read_by(member, self.members[member], self.targets)]]

    @override
    def target_for(self, member: Member, activations: Tensor) -> Tensor | None:
        return activations[..., self._columns[self.targets[member.part]]] if self.targets else None
