"""Which SAEs were trained on a model whose writing weights TransformerLens had centred.

With `center_writing_weights` TransformerLens removes from everything that is written to the residual stream its mean
over d_in. A model with LayerNorm computes the same, since LayerNorm removes it anyway, but activations of the residual
stream are then x - mean(x). An SAE trained on these takes raw activations of the model with `input_norm="center"`.
TransformerLens does so for LayerNorm alone, never for RMSNorm.
"""

import re
from collections.abc import Mapping
from typing import Any

_CENTRED = re.compile(r"(hook_resid_(pre|mid|post)|hook_(attn|mlp)_out|hook(_pos)?_embed)$")
_LAYER_NORM = re.compile(r"^(distil)?gpt2|^pythia|^gpt-neo|^gelu-|^tiny-?stories", re.IGNORECASE)
_RMS_NORM = re.compile(r"llama|gemma|mistral|mixtral|qwen|phi-3|olmo|^t5", re.IGNORECASE)


def is_centred(said: Mapping[str, Any], loaded_with_defaults: bool) -> bool | None:
    """Return whether activations were centred; None if they were where the model has LayerNorm, which is not known.

    Args:
        said: `model_name`, `hook_name`, `model_class_name` and `model_from_pretrained_kwargs` of SAELens, where known.
        loaded_with_defaults: what is not said was as TransformerLens does it unless told otherwise, which is to centre.
    """
    options = said.get("model_from_pretrained_kwargs")
    is_centred = options.get("center_writing_weights") if isinstance(options, Mapping) else None
    if not (loaded_with_defaults if is_centred is None else is_centred):
        return False
    if said.get("model_class_name", "HookedTransformer") != "HookedTransformer":
        return False
    if not _CENTRED.search(str(said.get("hook_name"))):
        return False
    model = str(said.get("model_name")).rpartition("/")[2]
    if _LAYER_NORM.search(model):
        return True
    return False if _RMS_NORM.search(model) else None
