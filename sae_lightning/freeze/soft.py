"""Soft-Frozen Decoder and Encoder: each direction w stays within a cone about its start w0.

The baseline of Korznikov et al. 2026, arXiv 2602.14111.

After each optimizer step, with c = <w, w0> and tau = `min_cosine`,

    if c < tau:   u = (w - c w0) / ||w - c w0||,   w <- tau w0 + sqrt(1 - tau^2) u

which is the nearest unit vector within the cone. The paper states the constraint but not the projection. At tau = 0.8 a
direction may turn by 37 degrees, so this baseline is a constrained trained SAE rather than a random one.

The encoder's directions keep the norms that they have: their length is part of what a latent reads.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from sae_lightning.checks import check_between
from sae_lightning.freeze.policy import FreezePolicy, FrozenEncoder, check_unit_norm
from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.init import DecoderInit


class SoftFrozenDecoder(FreezePolicy):
    """Decoder directions keep a minimum cosine to their start; everything is trained within that.

    Args:
        min_cosine: least cosine of a decoder direction to its start, in [-1, 1]; 1 equals FrozenDecoder, -1 equals
            NoFreeze.
    """

    name = "soft_frozen_decoder"

    def __init__(self, min_cosine: float = 0.8) -> None:
        super().__init__()
        check_between(-1, 1, min_cosine=min_cosine, hint="a cosine, such as 0.8")
        self.min_cosine = min_cosine

    def freeze(self, sae: SparseAutoencoder) -> None:
        """Take the gradient from `W_dec` at `min_cosine` 1, where no direction may move.

        Raises:
            ValueError: if directions have no unit norm.
        """
        if self.min_cosine > -1:
            check_unit_norm("SoftFrozenDecoder turns unit vectors", sae)
        if self.min_cosine == 1:
            sae.W_dec.requires_grad_(False)

    def project(self, sae: SparseAutoencoder) -> None:
        """Turn directions that left their cone back to its rim."""
        if -1 < self.min_cosine < 1:
            project_to_cone_(sae.W_dec, sae.W_dec_start, self.min_cosine)


class SoftFrozenEncoder(FreezePolicy):
    """Encoder directions keep a minimum cosine to their start, whatever their norm; everything is trained within that.

    Args:
        min_cosine: least cosine of an encoder direction to its start, in [-1, 1]; at -1 it equals NoFreeze.
    """

    name = "soft_frozen_encoder"

    def __init__(self, min_cosine: float = 0.8) -> None:
        super().__init__()
        check_between(-1, 1, min_cosine=min_cosine, hint="a cosine, such as 0.8")
        self.min_cosine = min_cosine

    def default_init(self, of_several_hooks: bool = False) -> DecoderInit | None:
        """Return that of a frozen encoder, which it is at `min_cosine` 1."""
        return FrozenEncoder().default_init(of_several_hooks)

    def freeze(self, sae: SparseAutoencoder) -> None:
        """Take the gradient from `W_enc` at `min_cosine` 1, where no direction may move.

        Raises:
            ValueError: if the start of the encoder is not kept.
        """
        if not (sae.is_transcoder or sae.tied_init):
            raise ValueError(
                "SoftFrozenEncoder needs the start of the encoder, which an SAE with tied_init=false does not keep: "
                "train it with tied_init=true, or take another policy"
            )
        if self.min_cosine == 1:
            sae.W_enc.requires_grad_(False)

    @torch.no_grad()
    def project(self, sae: SparseAutoencoder) -> None:
        """Turn directions that left their cone back to its rim, at the norms that they have."""
        if not -1 < self.min_cosine < 1:
            return
        start = sae.W_enc_start if sae.is_transcoder else sae.W_dec_start
        directions = sae.W_enc.T  # a view of what is stored by latent
        norms = torch.linalg.vector_norm(directions, dim=1, keepdim=True).clamp_min(1e-12)
        outside = (torch.linalg.vecdot(directions / norms, start) < self.min_cosine).nonzero()[:, 0]
        turned = project_to_cone_(directions[outside] / norms[outside], start[outside], self.min_cosine)
        directions[outside] = turned * norms[outside]


@torch.no_grad()
def project_to_cone_(
    directions: Float[Tensor, "n d"], start: Float[Tensor, "n d"], min_cosine: float
) -> Float[Tensor, "n d"]:
    """Project unit rows to the cones about the unit rows of `start`, in place.

    Args:
        directions: changed in place.
        start: axes of the cones.
        min_cosine: least cosine to the axis, in (-1, 1).

    Returns:
        directions.
    """
    outside = (torch.linalg.vecdot(directions, start) < min_cosine).nonzero()[:, 0]
    if outside.numel() == 0:
        return directions
    w, w0 = directions[outside], start[outside]
    away = w - torch.linalg.vecdot(w, w0)[:, None] * w0
    # A direction opposite to its start is equally far from the whole rim, and w - c w0 is zero. It is turned towards
    # the coordinate axis in which w0 is smallest, which is never parallel to w0.
    axis = torch.zeros_like(w0).scatter_(1, w0.abs().argmin(1, keepdim=True), 1.0)
    axis -= torch.linalg.vecdot(axis, w0)[:, None] * w0
    away = torch.where(torch.linalg.vector_norm(away, dim=1, keepdim=True) > 1e-6, away, axis)
    # Normalised once more, since float32 rounding leaves the sum a few ulp from unit norm.
    directions[outside] = normalize(min_cosine * w0 + (1 - min_cosine**2) ** 0.5 * normalize(away, dim=1), dim=1)
    return directions
