"""A random encoder with the decoder that suits it best: what an SAE with a frozen encoder could reach."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from sae_lightning.controls.base import Control, assign, left_to_latents, move_b_dec, new_with_encoder, read_about
from sae_lightning.controls.calibration import calibrate
from sae_lightning.controls.cost import Cost, of_encoding, of_least_squares
from sae_lightning.controls.directions import Directions, draw_directions
from sae_lightning.metrics.least_squares import fit_decoder
from sae_lightning.saes import SparseAutoencoder

_SPREADS = {
    "isotropic": "",
    "covariance": " with the covariance of the activations",
    "own_directions": " with the covariance of its own encoder directions",
}


class RandomEncoder(Control):
    """Random unit rows as encoder, about the mean; decoder and `b_dec` by least squares with a ridge penalty.

    Args:
        directions: of the encoder: isotropic, drawn from N(0, covariance of the activations that are read), or of a
            transcoder own_directions, from N(0, covariance of its own encoder directions).
    """

    is_random: ClassVar[bool] = True
    of_transcoders = True

    def __init__(self, directions: Literal["isotropic", "covariance", "own_directions"] = "isotropic") -> None:
        if directions not in _SPREADS:
            raise ValueError(f"directions={directions!r}: expected isotropic, covariance or own_directions")
        self.directions: Literal["isotropic", "covariance", "own_directions"] = directions
        self.controls_for = f"what the best decoder makes of a random encoder{_SPREADS[directions]}"

    def check_kind(self, sae: SparseAutoencoder) -> None:
        """Check that an encoder has directions of its own: those of an SAE are the ones of its decoder.

        Raises:
            ValueError: if it is an SAE.
        """
        super().check_kind(sae)
        if self.directions == "own_directions" and not sae.is_transcoder:
            raise ValueError(
                "RandomEncoder(own_directions) is a control of transcoders, and this is an SAE, which reads what it "
                "writes: take RandomDecoder(own_rows)"
            )

    def new(self, sae: SparseAutoencoder) -> SparseAutoencoder:
        """Return an SAE of the same size, whose decoder rows may have any norm."""
        return new_with_encoder(sae, sae.d_sae, unit_norm_decoder=False)

    def _fill(
        self,
        own: SparseAutoencoder,
        sae: SparseAutoencoder,
        x: Tensor,
        y: Tensor,
        l0: float,
        generator: torch.Generator,
    ) -> None:
        directions: Directions = "own_rows" if self.directions == "own_directions" else self.directions
        rows = draw_directions(directions, own.d_sae, x, sae.W_enc.T, generator).to(x.device)
        assign(own, W_enc=rows.T, b_enc=x.new_zeros(own.d_sae))
        left, mean = left_to_latents(own, x, y), x.mean(0)
        fitted = fit_decoder(calibrate(own, x - mean, l0), left)
        assign(own, W_dec=fitted.weights)
        move_b_dec(own, fitted.intercept)
        read_about(own, mean)

    def cost(self, sae: SparseAutoencoder, n_samples: int, n_held_out: int, l0: float) -> Cost:
        """Return the cost of encoding all, and of the fit."""
        encoding = of_encoding(n_samples + n_held_out, sae.d_in, sae.d_sae, l0)
        return encoding + of_least_squares(n_samples, sae.d_out, sae.d_sae, l0)
