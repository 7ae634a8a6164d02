"""Dictionaries without superposition, each direction with its opposite: principal components, raw dimensions."""

from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.controls.base import ROWS, Control, assign, new_with_encoder
from sae_lightning.controls.calibration import calibrate
from sae_lightning.controls.cost import Cost, of_encoding
from sae_lightning.saes import SparseAutoencoder


class OrthonormalBasis(Control):
    """An orthonormal basis and its opposite, about the mean of the activations, with the transposed decoder as encoder.

    It has 2 d_in latents, whatever the SAE has. The k largest entries are the best k-sparse code in such a basis.
    """

    is_random: ClassVar[bool] = False

    def new(self, sae: SparseAutoencoder) -> SparseAutoencoder:
        """Return an SAE of two latents for each dimension."""
        return new_with_encoder(sae, 2 * sae.d_in)

    def most_l0(self, sae: SparseAutoencoder) -> int:
        """Return d_in: of a direction and its opposite one is active."""
        return sae.d_in

    @abstractmethod
    def basis(self, centred: Float[Tensor, "n d_in"]) -> Float[Tensor, "d_in d_in"]:
        """Return orthonormal rows."""

    def _fill(
        self,
        own: SparseAutoencoder,
        sae: SparseAutoencoder,
        x: Tensor,
        y: Tensor,
        l0: float,
        generator: torch.Generator,
    ) -> None:
        mean = x.mean(0)
        centred = x - mean
        basis = self.basis(centred)
        rows = torch.cat([basis, -basis])
        assign(own, W_dec=rows, W_enc=rows.T, b_enc=x.new_zeros(own.d_sae), b_dec=mean)
        calibrate(own, centred, l0)

    def cost(self, sae: SparseAutoencoder, n_samples: int, n_held_out: int, l0: float) -> Cost:
        """Return the cost of encoding."""
        return of_encoding(n_samples + n_held_out, sae.d_in, 2 * sae.d_in, l0)


class PrincipalComponents(OrthonormalBasis):
    """Principal components of the activations about their mean."""

    controls_for = "directions of largest variance, without superposition"

    def basis(self, centred: Float[Tensor, "n d_in"]) -> Float[Tensor, "d_in d_in"]:
        """Return the eigenvectors of the covariance, that of the largest variance first."""
        covariance = sum(block.double().T @ block.double() for block in centred.split(ROWS))
        assert isinstance(covariance, Tensor)
        return torch.linalg.eigh(covariance).eigenvectors.flip(1).T.to(centred.dtype).contiguous()

    def cost(self, sae: SparseAutoencoder, n_samples: int, n_held_out: int, l0: float) -> Cost:
        """Return the cost of encoding, of the covariance and of its eigenvectors."""
        return super().cost(sae, n_samples, n_held_out, l0) + Cost(
            4.0 * n_samples * sae.d_in**2 + 20.0 * sae.d_in**3, memory=16.0 * (ROWS * sae.d_in + sae.d_in**2)
        )


class RawDimensions(OrthonormalBasis):
    """The dimensions of the activations themselves."""

    controls_for = "the dimensions of the activations as the model has them"

    def basis(self, centred: Float[Tensor, "n d_in"]) -> Float[Tensor, "d_in d_in"]:
        """Return the unit vectors."""
        return torch.eye(centred.shape[1], dtype=centred.dtype, device=centred.device)
