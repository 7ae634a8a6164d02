"""A random encoder with the decoder that suits it best: what an SAE with a frozen encoder could reach."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from sae_lightning.controls.base import Control, assign, new_with_encoder
from sae_lightning.controls.calibration import calibrate
from sae_lightning.controls.cost import Cost, of_encoding, of_least_squares
from sae_lightning.controls.directions import draw_directions
from sae_lightning.metrics.least_squares import fit_decoder
from sae_lightning.saes import SparseAutoencoder


class RandomEncoder(Control):
    """Random unit rows as encoder, about the mean; decoder and `b_dec` by least squares with a ridge penalty.

    Args:
        directions: of the encoder: isotropic, or drawn from N(0, covariance of the activations).
    """

    is_random: ClassVar[bool] = True

    def __init__(self, directions: Literal["isotropic", "covariance"] = "isotropic") -> None:
        if directions not in ("isotropic", "covariance"):
            raise ValueError(f"directions={directions!r}: expected isotropic or covariance")
        self.directions: Literal["isotropic", "covariance"] = directions
        spread = " with the covariance of the activations" if directions == "covariance" else ""
        self.controls_for = f"what the best decoder makes of a random encoder{spread}"

    def new(self, sae: SparseAutoencoder) -> SparseAutoencoder:
        """Return an SAE of the same size, whose decoder rows may have any norm."""
        return new_with_encoder(sae, sae.d_sae, unit_norm_decoder=False)

    def most_l0(self, sae: SparseAutoencoder) -> int:
        """Return the number of latents."""
        return sae.d_sae

    def _fill(
        self, own: SparseAutoencoder, sae: SparseAutoencoder, x: Tensor, l0: float, generator: torch.Generator
    ) -> None:
        rows = draw_directions(self.directions, own.d_sae, x, sae.W_dec, generator).to(x.device)
        mean = x.mean(0)
        assign(own, W_enc=rows.T, b_enc=x.new_zeros(own.d_sae), b_dec=mean)
        centred = x - mean
        fitted = fit_decoder(calibrate(own, centred, l0), centred)
        assign(own, W_dec=fitted.weights)
        move_b_dec(own, fitted.intercept)

    def cost(self, sae: SparseAutoencoder, n_samples: int, n_held_out: int, l0: float) -> Cost:
        """Return the cost of encoding all, and of the fit."""
        size = (sae.d_in, sae.d_sae, l0)
        return of_encoding(n_samples + n_held_out, *size) + of_least_squares(n_samples, *size)


def move_b_dec(own: SparseAutoencoder, change: Tensor) -> None:
    """Change `b_dec`, and with it `b_enc`, so that the latents stay the same."""
    own.b_dec.add_(change)
    own.b_enc.add_(change @ own.W_enc)
