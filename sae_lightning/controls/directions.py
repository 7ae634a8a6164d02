"""Random directions of controls: without preferred direction, or as the activations or an SAE's own rows spread."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from sae_lightning.controls.base import evenly_spaced
from sae_lightning.metrics.random_dictionary import isotropic_directions
from sae_lightning.saes import CovarianceMatched

Directions = Literal["isotropic", "covariance", "own_rows"]


def draw_directions(
    directions: Directions,
    d_sae: int,
    x: Float[Tensor, "n d_in"],
    own_rows: Float[Tensor, "rows d_in"],
    generator: torch.Generator,
) -> Float[Tensor, "d_sae d_in"]:
    """Return unit rows, drawn on the CPU.

    Args:
        directions: isotropic; from N(0, covariance of the samples), or from N(0, covariance of the SAE's unit rows).
        d_sae: number of rows.
        x: samples.
        own_rows: decoder directions of the SAE, of any norm.
        generator: the only source of randomness.

    Raises:
        ValueError: if what a covariance is taken of does not vary.
    """
    if directions == "isotropic":
        return isotropic_directions(d_sae, x.shape[1], generator)
    init = CovarianceMatched()
    points = x if directions == "covariance" else normalize(own_rows[own_rows.any(1)].detach(), dim=1)
    if len(points) < 2:
        raise ValueError(f"{len(points)} decoder rows are not zero: expected two or more for a covariance")
    rows = init.directions(d_sae, x.shape[1], generator, evenly_spaced(points, init.n_samples(x.shape[1])))
    if not rows.any(1).all():
        raise ValueError(f"{'the samples' if directions == 'covariance' else 'the decoder rows'} are all the same")
    return rows
