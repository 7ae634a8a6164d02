"""A random decoder, with the best codes and with the cheapest: what an SAE with a frozen decoder could reach."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.code import Code
from sae_lightning.controls.base import MEASURED_SAMPLES, Control, assign, evenly_spaced, new_with_encoder
from sae_lightning.controls.calibration import calibrate
from sae_lightning.controls.cost import Cost, of_encoding, of_pursuit
from sae_lightning.controls.directions import draw_directions
from sae_lightning.controls.random_encoder import move_b_dec
from sae_lightning.metrics.least_squares import decode_in_blocks
from sae_lightning.metrics.nonnegative_pursuit import ROUNDS
from sae_lightning.saes import BatchTopK, CovarianceMatched, Pursuit, SparseAutoencoder
from sae_lightning.saes.bias_init import Zero


class RandomDecoder(Control):
    """Random unit rows as decoder, about the mean of the activations.

    Args:
        directions: drawn from N(0, covariance of the activations), or from N(0, covariance of the SAE's own rows).
        codes: pursuit, for non-negative codes by matching pursuit; tied, for an encoder that is the transposed decoder
            times one fitted scale.
    """

    is_random: ClassVar[bool] = True

    def __init__(
        self,
        directions: Literal["covariance", "own_rows"] = "covariance",
        codes: Literal["pursuit", "tied"] = "pursuit",
    ) -> None:
        if directions not in ("covariance", "own_rows"):
            raise ValueError(f"directions={directions!r}: expected covariance or own_rows")
        if codes not in ("pursuit", "tied"):
            raise ValueError(f"codes={codes!r}: expected pursuit or tied")
        self.directions: Literal["covariance", "own_rows"] = directions
        self.codes = codes
        makes = "the best codes make" if codes == "pursuit" else "an encoder tied to it makes"
        spread = "the activations" if directions == "covariance" else "the SAE's own decoder rows"
        self.controls_for = f"what {makes} of a random decoder with the covariance of {spread}"

    def new(self, sae: SparseAutoencoder) -> SparseAutoencoder:
        """Return an SAE of the same size."""
        if self.codes == "tied":
            return new_with_encoder(sae, sae.d_sae)
        own = Pursuit(
            sae.d_in, l0=1.0, d_sae=sae.d_sae, input_norm=sae.input_norm, init=CovarianceMatched(), b_dec_init=Zero()
        )
        return own.requires_grad_(False).eval()

    def most_l0(self, sae: SparseAutoencoder) -> int:
        """Return d_in where codes are pursued, since as many directions explain all, and the number of latents else."""
        return sae.d_sae if self.codes == "tied" else min(sae.d_in, sae.d_sae)

    def _fill(
        self, own: SparseAutoencoder, sae: SparseAutoencoder, x: Tensor, l0: float, generator: torch.Generator
    ) -> None:
        rows = draw_directions(self.directions, own.d_sae, x, sae.W_dec, generator).to(x.device)
        mean = x.mean(0)
        assign(own, W_dec=rows, W_enc=rows.T, b_enc=x.new_zeros(own.d_sae), b_dec=mean)
        if isinstance(own, Pursuit):
            own.calibrate(evenly_spaced(x, MEASURED_SAMPLES) - mean, l0)
            return
        centred = x - mean
        code = calibrate(own, centred, l0)
        scale, intercept = _scale_and_intercept(own, code, centred)
        assign(own, W_enc=scale * own.W_enc)
        own.b_enc.mul_(scale)
        if isinstance(own, BatchTopK):
            own.threshold.mul_(scale)
        move_b_dec(own, intercept)

    def cost(self, sae: SparseAutoencoder, n_samples: int, n_held_out: int, l0: float) -> Cost:
        """Return the cost of encoding, of a part of the samples where codes are pursued."""
        size = (sae.d_in, sae.d_sae, l0)
        if self.codes == "tied":
            return of_encoding(n_samples + n_held_out, *size)
        return of_pursuit(min(n_samples, MEASURED_SAMPLES) + n_held_out, *size, ROUNDS)


def _scale_and_intercept(
    own: SparseAutoencoder, code: Code, centred: Float[Tensor, "n d_in"]
) -> tuple[float, Float[Tensor, " d_in"]]:
    """Return one scale of all latents, and what to add to `b_dec`, by least squares."""
    x_hat = decode_in_blocks(code, own.W_dec)
    mean = x_hat.mean(0)
    x_hat -= mean
    variance, covariance = (float((x_hat * other).sum(dtype=torch.float64)) for other in (x_hat, centred))
    scale = covariance / variance if covariance > 0 and variance > 0 else 1.0  # latents must stay above zero
    return scale, centred.mean(0) - scale * mean
