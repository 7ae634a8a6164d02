"""Write an SAE in a format that always or never subtracts `b_dec` before encoding.

    (x - b_dec) W_enc + b_enc = x W_enc + (b_enc - b_dec W_enc)

Latents stay what they are; only the biases of the encoder change.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from sae_lightning.formats.stored import StoredSAE


def with_b_dec_subtracted(stored: StoredSAE, subtracted: bool) -> StoredSAE:
    """Return the same function with `apply_b_dec_to_input` as wanted.

    Args:
        stored: of any variant.
        subtracted: what `apply_b_dec_to_input` shall be.
    """
    if stored.settings["apply_b_dec_to_input"] == subtracted:
        return stored
    b_dec = stored.tensors["b_dec"]
    sign, does = ("+", "") if subtracted else ("-", "not ")
    fold = f"b_enc {sign}= b_dec @ W_enc, as b_dec is {does}subtracted from the input in this format"
    return replace(
        stored,
        tensors=encoding_with(stored.tensors, b_dec if subtracted else -b_dec),
        settings={**stored.settings, "apply_b_dec_to_input": subtracted},
        folds=(*stored.folds, fold),
    )


def encoding_with(tensors: Mapping[str, Tensor], added: Tensor) -> dict[str, Tensor]:
    """Return tensors that encode x as these encode x + added; computed in float64 and rounded once."""
    by_latent = added.double() @ tensors["W_enc"].double()
    changed = {"b_enc": (tensors["b_enc"].double() + by_latent).float()}
    if "r_mag" in tensors:
        changed["b_mag"] = (tensors["b_mag"].double() + by_latent * tensors["r_mag"].double().exp()).float()
    return {**tensors, **changed}
