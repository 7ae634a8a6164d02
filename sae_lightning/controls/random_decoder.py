"""A random decoder, with the best codes and with the cheapest: what an SAE with a frozen decoder could reach."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.code import Code
from sae_lightning.controls.base import (
    MEASURED_SAMPLES,
    Control,
    assign,
    evenly_spaced,
    left_to_latents,
    move_b_dec,
    new_with_encoder,
    read_about,
)
from sae_lightning.controls.calibration import calibrate
from sae_lightning.controls.cost import Cost, of_encoding, of_pursuit
from sae_lightning.controls.directions import draw_directions
from sae_lightning.kernels import transposed_times
from sae_lightning.metrics.least_squares import decode_in_blocks
from sae_lightning.metrics.nonnegative_pursuit import ROUNDS, pursue_nonnegative
from sae_lightning.saes import BatchTopK, CovarianceMatched, Pursuit, SparseAutoencoder
from sae_lightning.saes.bias_init import Zero

_REGRESSED_SAMPLES = 16_384
"""Samples of which codes are pursued for an encoder to be regressed on them."""
_RIDGE = 0.01
"""Penalty of that regression, in units of the mean variance of a dimension."""
_MAKES = {
    "pursuit": "the best codes make",
    "tied": "an encoder tied to it makes",
    "regressed": "an encoder regressed on its best codes makes",
    "target_pursuit": "the best codes for the target, which no transcoder knows, make",
}
_SPREADS = {"covariance": "the activations", "own_rows": "the SAE's own decoder rows"}
_OF_TRANSCODERS = ("regressed", "target_pursuit")


class RandomDecoder(Control):
    """Random unit rows as decoder, about the mean of what is answered.

    Args:
        directions: drawn from N(0, covariance of the activations), of a transcoder those of the target; or from
            N(0, covariance of the SAE's own rows).
        codes: of an SAE pursuit, for non-negative codes by matching pursuit, or tied, for an encoder that is the
            transposed decoder times one fitted scale. Of a transcoder regressed, for the encoder that best predicts
            from the source, by ridge regression, the codes that matching pursuit finds in the target, times one fitted
            scale; or target_pursuit, for these codes themselves: a bound, since what has them is shown the target.
    """

    is_random: ClassVar[bool] = True

    def __init__(
        self,
        directions: Literal["covariance", "own_rows"] = "covariance",
        codes: Literal["pursuit", "tied", "regressed", "target_pursuit"] = "pursuit",
    ) -> None:
        if directions not in _SPREADS:
            raise ValueError(f"directions={directions!r}: expected covariance or own_rows")
        if codes not in _MAKES:
            raise ValueError(f"codes={codes!r}: expected {', '.join(_MAKES)}")
        self.directions: Literal["covariance", "own_rows"] = directions
        self.codes = codes
        self.of_transcoders = codes in _OF_TRANSCODERS
        self.of_saes = not self.of_transcoders
        spread = _SPREADS[directions]
        if self.of_transcoders:
            spread = "the target" if directions == "covariance" else "its own decoder rows"
        self.controls_for = f"what {_MAKES[codes]} of a random decoder with the covariance of {spread}"

    def reads_target(self, sae: SparseAutoencoder) -> bool:
        """Return whether it is shown the target."""
        return self.codes == "target_pursuit"

    def new(self, sae: SparseAutoencoder) -> SparseAutoencoder:
        """Return an SAE of the same size; what is shown the target is an SAE of that."""
        if self._has_encoder:
            return new_with_encoder(sae, sae.d_sae)
        own = Pursuit(
            sae.d_out, l0=1.0, d_sae=sae.d_sae, input_norm=sae.input_norm, init=CovarianceMatched(), b_dec_init=Zero()
        )
        return own.requires_grad_(False).eval()

    @property
    def _has_encoder(self) -> bool:
        return self.codes in ("tied", "regressed")

    def most_l0(self, sae: SparseAutoencoder) -> int:
        """Return d_out where it has pursued codes, since as many directions explain all, else the number of latents."""
        return super().most_l0(sae) if self._has_encoder else min(sae.d_out, sae.d_sae)

    def _fill(
        self,
        own: SparseAutoencoder,
        sae: SparseAutoencoder,
        x: Tensor,
        y: Tensor,
        l0: float,
        generator: torch.Generator,
    ) -> None:
        rows = draw_directions(self.directions, own.d_sae, y, sae.W_dec, generator).to(x.device)
        assign(own, W_dec=rows, b_enc=x.new_zeros(own.d_sae))
        if isinstance(own, Pursuit):
            mean = y.mean(0)
            assign(own, W_enc=rows.T, b_dec=mean)
            own.calibrate(evenly_spaced(y, MEASURED_SAMPLES) - mean, l0)
            return
        left, mean = left_to_latents(own, x, y), x.mean(0)
        centred = x - mean
        assign(own, W_enc=rows.T if self.codes == "tied" else _regressed_encoder(centred, left, rows, l0))
        code = calibrate(own, centred, l0)
        scale, intercept = _scale_and_intercept(own, code, left)
        assign(own, W_enc=scale * own.W_enc)
        own.b_enc.mul_(scale)
        if isinstance(own, BatchTopK):
            own.threshold.mul_(scale)
        move_b_dec(own, intercept)
        read_about(own, mean)

    def cost(self, sae: SparseAutoencoder, n_samples: int, n_held_out: int, l0: float) -> Cost:
        """Return the cost of encoding, and of pursuing codes of a part of the samples where that is done."""
        encoding = of_encoding(n_samples + n_held_out, sae.d_in, sae.d_sae, l0)
        if self.codes == "tied":
            return encoding
        size = (sae.d_out, sae.d_sae, l0)
        if self.codes == "regressed":
            n = min(n_samples, _REGRESSED_SAMPLES)
            solving = Cost(2.0 * sae.d_in**2 * (n + sae.d_sae), n * l0 * sae.d_in * 4.0, 16.0 * sae.d_in * sae.d_sae)
            return encoding + of_pursuit(n, *size, ROUNDS) + solving
        return of_pursuit(min(n_samples, MEASURED_SAMPLES) + n_held_out, *size, ROUNDS)


def _regressed_encoder(
    centred: Float[Tensor, "n d_in"], left: Float[Tensor, "n d_out"], rows: Float[Tensor, "d_sae d_out"], l0: float
) -> Float[Tensor, "d_in d_sae"]:
    """Return what predicts, by ridge regression from centred samples, the codes that matching pursuit finds.

    Args:
        centred: samples less their mean.
        left: what the latents are to explain.
        rows: unit decoder directions.
        l0: latents per sample.
    """
    x, y = evenly_spaced(centred, _REGRESSED_SAMPLES), evenly_spaced(left, _REGRESSED_SAMPLES)
    most = min(rows.shape)
    code = pursue_nonnegative(y, rows, max(1, min(most, round(l0)))).code(len(rows))
    x = x - x.mean(0)  # so that the means of the codes do not matter
    gram = (x.T @ x).double()
    gram.diagonal().add_(_RIDGE * gram.diagonal().mean())
    right = transposed_times(code.values, code, x).T.double()
    return torch.cholesky_solve(right, torch.linalg.cholesky(gram)).to(x.dtype)


def _scale_and_intercept(
    own: SparseAutoencoder, code: Code, left: Float[Tensor, "n d_out"]
) -> tuple[float, Float[Tensor, " d_out"]]:
    """Return one scale of all latents, and what to add to `b_dec`, by least squares."""
    x_hat = decode_in_blocks(code, own.W_dec)
    mean = x_hat.mean(0)
    x_hat -= mean
    variance, covariance = (float((x_hat * other).sum(dtype=torch.float64)) for other in (x_hat, left))
    scale = covariance / variance if covariance > 0 and variance > 0 else 1.0  # latents must stay above zero
    return scale, left.mean(0) - scale * mean
