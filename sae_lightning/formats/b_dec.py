"""Write an SAE in a format that always or never subtracts `b_dec` before encoding.

    (x - b_dec) W_enc + b_enc = x W_enc + (b_enc - b_dec W_enc)

Latents stay what they are; only `b_enc` changes.
"""

from dataclasses import replace

from sae_lightning.formats.stored import StoredSAE


def with_b_dec_subtracted(stored: StoredSAE, subtracted: bool) -> StoredSAE:
    """Return the same function with `apply_b_dec_to_input` as wanted, computed in float64 and rounded once.

    Args:
        stored: of a variant whose only encoder bias is `b_enc`.
        subtracted: what `apply_b_dec_to_input` shall be.
    """
    if stored.settings["apply_b_dec_to_input"] == subtracted:
        return stored
    b_enc, b_dec, W_enc = (stored.tensors[name].double() for name in ("b_enc", "b_dec", "W_enc"))
    sign = 1 if subtracted else -1
    fold = f"b_enc {'+' if subtracted else '-'}= b_dec @ W_enc, as b_dec is {'' if subtracted else 'not '}subtracted"
    return replace(
        stored,
        tensors={**stored.tensors, "b_enc": (b_enc + sign * b_dec @ W_enc).float()},
        settings={**stored.settings, "apply_b_dec_to_input": subtracted},
        folds=(*stored.folds, f"{fold} from the input in this format"),
    )
