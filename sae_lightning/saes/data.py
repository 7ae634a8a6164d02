"""What SAEs and the data that they are trained on know of each other, and how a batch is laid out."""

from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor

from sae_lightning.members import Member

if TYPE_CHECKING:
    from sae_lightning.saes.base import SparseAutoencoder
    from sae_lightning.saes.module import SAEModule


@runtime_checkable
class CalibrationData(Protocol):
    """A datamodule from which members can take their start and their scale."""

    def calibration_sample(self, n: int) -> Tensor:
        """Return n activations [n, d_in] of the training data."""
        ...


@runtime_checkable
class ActivationData(CalibrationData, Protocol):
    """What members and the datamodules of this library know of each other."""

    @property
    def null_parts(self) -> tuple[str, ...]:
        """Names of the parts of the activations that are null versions of them."""
        ...

    def n_train_batches(self, checkpoint: Mapping[str, Any] | None = None) -> int:
        """Return the number of batches of one rank in an epoch, of a run that is resumed from a checkpoint or not."""
        ...

    def use_starting_dictionaries(self, members: "Mapping[Member, SparseAutoencoder]") -> None:
        """Compare the data with the directions that the members start from."""
        ...


@runtime_checkable
class SearchableData(Protocol):
    """A datamodule that can be searched for numbers that are not finite."""

    def find_non_finite(self) -> str | None:
        """Name the place of the first one; None if there is none, or if it cannot be found again."""
        ...


def columns_by_part(widths: Mapping[str, int]) -> dict[str, slice]:
    """Return which columns of the activations each part has, from the widths of the parts in order.

    >>> columns_by_part({"early": 4, "late": 2})
    {'early': slice(0, 4, None), 'late': slice(4, 6, None)}
    """
    ends = accumulate(widths.values(), initial=0)
    return {part: slice(*span) for part, span in zip(widths, pairwise(ends), strict=True)}


def where_not_finite(data: object) -> str:
    """Name the first number in training data that is not finite; empty where they cannot be searched."""
    place = data.find_non_finite() if isinstance(data, SearchableData) else None
    return f". In the data: {place}" if place else ""


def refuse_unread_nulls(module: "SAEModule", data: object) -> None:
    """Refuse null versions of the activations without SAEs for each.

    Args:
        module: whose members read the data.
        data: of the trainer, of any kind.

    Raises:
        ValueError: says how to read them.
    """
    nulls = data.null_parts if isinstance(data, ActivationData) else ()
    if {*nulls} <= {*(member.part for member in module.all_members), *module.targets.values()}:
        return
    why = (
        "model.targets has no pair for each; name both sides, such as gaussian_mlp_in: gaussian_mlp_out"
        if module.targets
        else "a crosscoder would take them for more parts of one code"
        if any(sae.crosscoder for sae in module.all_members.values())
        else "a lone SAE would read activations and nulls side by side, as one; take a SanityPanel, which "
        "trains SAEs for each"
    )
    raise ValueError(f"data.nulls={', '.join(nulls)}: {why}, or leave out data.nulls")
