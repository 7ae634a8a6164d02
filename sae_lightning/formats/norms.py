"""Scales that another library applies while its SAE runs, folded into the weights; the function stays the same.

    of the data            x' = a x, x_hat = x_hat' / c       W_enc a, W_dec / c, b_dec / c
    of decoder rows n      chosen are the largest pre_acts n, or those above a threshold
      JumpReLU             pre_acts n > threshold             threshold / n
      TopK, BatchTopK      the k largest pre_acts n           W_enc n, b_enc n, W_dec / n

Only the last changes latents, which become n times as large. A ReLU does not see n. All is computed in float64 and
rounded once.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

_FOLDED_RESCALED = (
    "the decoder norms by which latents are chosen are folded into the encoder, and a latent is its decoder norm times "
    "that of the file"
)
_FOLDED_THRESHOLD = "thresholds are divided by the decoder norms that pre-activations are multiplied by to be chosen"


def fold_decoder_norms(variant: str, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return tensors that choose by pre-activations alone what the given ones choose by pre-activations x norms.

    Args:
        variant: of the SAE.
        tensors: in our names and orientation, not changed.

    Returns:
        The tensors, and what was done, in words.
    """
    norms = torch.linalg.vector_norm(tensors["W_dec"].double(), dim=1)
    if variant == "ReLU" or bool((norms == 1).all()):
        return dict(tensors), ()
    if variant == "JumpReLU":
        # A row of zeros would make its threshold infinite, which no file may hold: it cannot be reached either way.
        threshold = (tensors["threshold"].double() / norms).float().nan_to_num()
        return {**tensors, "threshold": threshold}, (_FOLDED_THRESHOLD,)
    kept = norms.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
    folded = {
        "W_enc": (tensors["W_enc"].double() * norms).float(),
        "b_enc": (tensors["b_enc"].double() * norms).float(),
        "W_dec": (tensors["W_dec"].double() / kept).float(),
    }
    return {**tensors, **folded}, (_FOLDED_RESCALED,)


def fold_data_norms(tensors: Mapping[str, Tensor], scale_in: float, scale_out: float) -> dict[str, Tensor]:
    """Return tensors that take raw activations, where the given ones take activations times a scale.

    Args:
        tensors: in our names and orientation, not changed.
        scale_in: by which activations are multiplied.
        scale_out: by which reconstructions are divided.
    """
    scales = {"W_enc": scale_in, "W_dec": 1 / scale_out, "b_dec": 1 / scale_out}
    return {
        name: (tensor.double() * scales[name]).float() if name in scales else tensor for name, tensor in tensors.items()
    }
