"""`Control`: an SAE with random or plain parts, at the l0 of the SAE that it stands beside."""

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from sae_lightning.saes.base import SparseAutoencoder


class Control(ABC):
    """A null of an SAE, for which nothing is trained by gradient.

    Attributes:
        controls_for: what it controls for, a clause.
        is_random: whether there are several draws of it, by seed.
    """

    controls_for: ClassVar[str]
    is_random: ClassVar[bool] = True

    @abstractmethod
    def new(self, sae: SparseAutoencoder) -> SparseAutoencoder:
        """Return the control of an SAE, not started, of the shape that it will have."""

    @abstractmethod
    def start(
        self, own: SparseAutoencoder, sae: SparseAutoencoder, samples: Float[Tensor, "n d_in"], l0: float, seed: int
    ) -> None:
        """Give a control its weights.

        Args:
            own: what `new` returned.
            sae: that it is a control of.
            samples: raw activations.
            l0: of the SAE on these samples, which the control is to have.
            seed: of what is drawn.
        """
