"""Whether an SAE that was written and read again computes the same: latents and reconstructions of random activations.

    x = b_dec + s g,    g of mean squared norm 1,    s such that about as many latents fire as the SAE was made for

and without b_dec for a transcoder, whose b_dec lies where it answers.

A format that expresses the SAE otherwise rounds, so that a latent which lies within rounding of its threshold can fire
in one of the two alone. Few activations may have such a latent; values are compared on the others.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.saes.base import SparseAutoencoder
from sae_lightning.saes.stated import stated_of

N_ACTIVATIONS = 256
TOLERANCE = 1e-4
"""Largest difference relative to the largest value; float32 sums of some thousand terms differ by 1e-6 to 1e-5."""
MOST_AT_THRESHOLD = 0.02
"""Largest share of activations with a latent that fires in one of the two alone."""
_SCALES = tuple(2.0**exponent for exponent in range(-16, 25))
_N_FOR_SCALE = 16
_ROWS_AT_ONCE = 16
_SEED = 0x5AE0


@dataclass(frozen=True)
class Comparison:
    """How two SAEs differ on the same activations.

    Args:
        latents: largest difference of a latent.
        reconstructions: largest difference of a coordinate of a reconstruction.
        is_same: whether both are rounding, relative to what the SAE computes.
        n_at_threshold: activations with a latent that fires in one of the two alone; they are left out above.
        l0: mean number of latents that fire in the first.
    """

    latents: float
    reconstructions: float
    is_same: bool
    n_at_threshold: int
    l0: float

    @property
    def largest(self) -> float:
        """The larger difference."""
        return max(self.latents, self.reconstructions)


@torch.no_grad()
def compare(sae: SparseAutoencoder, other: SparseAutoencoder) -> Comparison:
    """Compare two SAEs on `N_ACTIVATIONS` random activations of fitting scale, dense in blocks.

    Raises:
        ValueError: if they have other sizes.
    """
    if (sae.d_in, sae.d_sae, sae.d_out) != (other.d_in, other.d_sae, other.d_out):
        raise ValueError(
            f"what was written has d_in={other.d_in}, d_sae={other.d_sae} and d_out={other.d_out}, and the SAE "
            f"{sae.d_in}, {sae.d_sae} and {sae.d_out}"
        )
    x = fitting_activations(sae, N_ACTIVATIONS)
    differences, largest, n_at_threshold, n_firing = [0.0, 0.0], [0.0, 0.0], 0, 0
    for rows in x.split(_ROWS_AT_ONCE):
        codes = [one.encode(rows) for one in (sae, other)]
        latents = [code.to_dense() for code in codes]
        same = ((latents[0] != 0) == (latents[1] != 0)).all(1)
        n_at_threshold += int((~same).sum())
        n_firing += int((latents[0] != 0).sum())
        reconstructions = [one.decode(code) for one, code in zip((sae, other), codes, strict=True)]
        for kind, (ours, theirs) in enumerate((latents, reconstructions)):
            if same.any():
                differences[kind] = max(differences[kind], float((ours - theirs)[same].abs().max()))
                largest[kind] = max(largest[kind], float(ours[same].abs().max()))
    is_same = n_at_threshold <= MOST_AT_THRESHOLD * len(x) and all(
        difference <= TOLERANCE * max(size, 1e-30) for difference, size in zip(differences, largest, strict=True)
    )
    return Comparison(differences[0], differences[1], is_same, n_at_threshold, n_firing / len(x))


@torch.no_grad()
def fitting_activations(sae: SparseAutoencoder, n: int) -> Float[Tensor, "n d_in"]:
    """Return random activations around b_dec of an SAE, on which about as many latents fire as the SAE was made for."""
    noise = torch.randn(n, sae.d_in, generator=torch.Generator().manual_seed(_SEED)) / sae.d_in**0.5
    centre = torch.zeros(sae.d_in) if sae.is_transcoder else sae.b_dec.detach().cpu() / sae.input_scale.cpu()
    stated = stated_of(sae.provenance)
    aim = float(getattr(sae, "k", None) or stated.get("l0") or sae.d_sae**0.5)
    few = [centre + scale * noise[:_N_FOR_SCALE] for scale in _SCALES]
    l0 = torch.tensor([float(sae.encode(x.to(sae.device)).firing_counts().sum()) / len(x) for x in few])
    best = int((l0.clamp(min=0.01).log() - torch.tensor(aim).log()).abs().argmin())
    return (centre + _SCALES[best] * noise).to(sae.device)
