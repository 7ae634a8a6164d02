"""How each activation is normalised by itself before it is encoded, and its reconstruction brought back.

    center        x' = x - mean(x)                          as SAEs of models whose writing weights were centred expect
    layer_norm    x' = (x - mean(x)) / (std(x) + 1e-5)      Gao et al. 2024, arXiv 2406.04093; std over d_in - 1
    unit_norm     x' = x sqrt(d_in) / ||x||

Mean and std are those of one activation over its dimensions. A reconstruction is brought back by std and mean, without
the epsilon, as in the libraries that have such SAEs. Unlike a scale of the whole data this cannot be folded into the
weights, so it stays a part of the SAE.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lightning.code import RowNorm

InputNorm = Literal["center", "layer_norm", "unit_norm"]
INPUT_NORMS = get_args(InputNorm)
_EPSILON = 1e-5


def check_input_norm(input_norm: str | None) -> None:
    """Check that this is a way to normalise, or none.

    Raises:
        ValueError: if it is not.
    """
    if input_norm is not None and input_norm not in INPUT_NORMS:
        raise ValueError(f"input_norm={input_norm!r}: expected {', '.join(INPUT_NORMS)} or null")


def normalise(
    x: Float[Tensor, "batch d_in"], input_norm: InputNorm | None
) -> tuple[Float[Tensor, "batch d_in"], RowNorm | None]:
    """Return normalised activations and how to go back; without a norm the same activations and None.

    >>> normalise(torch.tensor([[3.0, 4.0]]), "unit_norm")[0]
    tensor([[0.8485, 1.1314]])
    """
    if input_norm is None:
        return x, None
    zeros, ones = (x.new_full((len(x), 1), value) for value in (0.0, 1.0))
    if input_norm == "unit_norm":
        norms = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        scale = torch.where(norms > 0, norms / x.shape[1] ** 0.5, ones)
        return x / scale, RowNorm(zeros, scale)
    shift = x.mean(1, keepdim=True)
    if input_norm == "center":
        return x - shift, RowNorm(shift, ones)
    scale = x.std(1, keepdim=True)
    return (x - shift) / (scale + _EPSILON), RowNorm(shift, scale)
