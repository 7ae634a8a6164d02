"""Places in a model in the words of other libraries, and where they are for transformers."""

import re
from collections.abc import Collection

_BLOCKS = r"(?:model\.|transformer\.|gpt_neox\.)?(?:layers|h)"
_PATTERNS = (
    (r"blocks\.(\d+)\.hook_resid_post", "output of block {0}", 0),
    (r"blocks\.(\d+)\.hook_resid_pre", "output of block {0}", -1),
    (r"blocks\.(\d+)\.hook_mlp_out", "output of the MLP of block {0}", 0),
    (r"blocks\.(\d+)\.hook_attn_out", "output of the attention of block {0}", 0),
    (r"blocks\.(\d+)\.attn\.hook_z", "input of the attention's output projection in block {0}", 0),
    (r"(?:model\.|transformer\.|gpt_neox\.)?(?:layers|h)\.(\d+)(?:\.output)?", "output of block {0}", 0),
    (
        r"(?:model\.|transformer\.|gpt_neox\.)?(?:layers|h)\.(\d+)\.mlp(?:\.output)?",
        "output of the MLP of block {0}",
        0,
    ),
    (
        r"(?:model\.|transformer\.|gpt_neox\.)?(?:layers|h)\.(\d+)\."
        r"(?:mlp\.input|(?:post_attention_layernorm|pre_feedforward_layernorm|ln_2)(?:\.output)?)",
        "input of the MLP of block {0}",
        0,
    ),
    (r"resid_post_layer_(\d+)", "output of block {0}", 0),
    (r"layer_(\d+)", "output of block {0}", 0),
)


def place_of(hook: str) -> str | None:
    """Return where a hook is, in words; None if its name is in no known form.

    >>> place_of("blocks.8.hook_resid_pre"), place_of("model.layers.7")
    ('output of block 7', 'output of block 7')
    >>> place_of("blocks.0.hook_resid_pre")
    'input of block 0'
    """
    for pattern, words, shift in _PATTERNS:
        if match := re.fullmatch(pattern, hook):
            block = int(match[1]) + shift
            return words.format(block) if block >= 0 else "input of block 0"
    return None


def neighbours_of(hook: str) -> list[str]:
    """Return the same place one block before and one after.

    >>> neighbours_of("model.layers.0.mlp"), neighbours_of("embed")
    (['model.layers.1.mlp'], [])
    """
    if not (numbers := list(re.finditer(r"\d+", hook))):
        return []
    first = numbers[0]
    blocks = [int(first[0]) - 1, int(first[0]) + 1]
    return [f"{hook[: first.start()]}{block}{hook[first.end() :]}" for block in blocks if block >= 0]


_BLOCK_LISTS = (
    "model.layers",
    "transformer.h",
    "gpt_neox.layers",
    "model.language_model.layers",
    "model.decoder.layers",
    "layers",
    "h",
)
"""Names under which models of transformers keep their blocks."""
_ATTENTIONS = ("self_attn", "attn", "attention")
_SUBMODULES: dict[str, tuple[tuple[str, ...], bool]] = {
    "output of block": (("",), False),
    "input of block": (("",), True),
    "output of the MLP of block": ((".mlp", ".feed_forward"), False),
    "input of the MLP of block": ((".mlp", ".feed_forward"), True),
    "output of the attention of block": (tuple(f".{name}" for name in _ATTENTIONS), False),
    "input of the attention's output projection in block": (
        tuple(f".{name}.{last}" for name in _ATTENTIONS for last in ("o_proj", "c_proj", "out_proj", "dense")),
        True,
    ),
}
"""By what `place_of` says: the ends of the name of the submodule, and whether its input is meant."""


def name_in_model(hook: str, submodules: Collection[str]) -> tuple[str, bool] | None:
    """Return the submodule of a model that a hook is, and whether its input is meant; None where that is unknown.

    Args:
        hook: in the words of any library.
        submodules: dotted names of all submodules of the model.

    >>> name_in_model("blocks.3.hook_resid_post", ["transformer.h.3", "transformer.h.3.mlp"])
    ('transformer.h.3', False)
    >>> name_in_model("blocks.0.hook_resid_pre", ["model.layers.0"])
    ('model.layers.0', True)
    """
    if hook in submodules:
        return hook, False
    if (place := place_of(hook)) is None:
        return None
    words, _, block = place.rpartition(" ")
    ends, is_input = _SUBMODULES[words]
    names = (f"{blocks}.{block}{end}" for blocks in _BLOCK_LISTS for end in ends)
    return next(((name, is_input) for name in names if name in submodules), None)


_NORMS_BEFORE_THE_MLP = ("pre_feedforward_layernorm", "ln_2", "post_attention_layernorm")
"""The first of these that a block has: where there are both, the last one comes before the residual is added."""


def output_in_model(hook: str, submodules: Collection[str]) -> str | None:
    """Return the submodule of a model whose output a hook is; None where that is unknown.

    What goes into an MLP is the output of the norm before it.

    Args:
        hook: in the words of any library.
        submodules: dotted names of all submodules of the model.

    >>> output_in_model("layers.3.mlp.input", ["model.layers.3.post_attention_layernorm", "model.layers.3.mlp"])
    'model.layers.3.post_attention_layernorm'
    >>> output_in_model("blocks.3.hook_mlp_out", ["model.layers.3.mlp"])
    'model.layers.3.mlp'
    """
    if (name := hook.removesuffix(".output")) in submodules:
        return name
    words, _, block = (place_of(hook) or "").rpartition(" ")
    if words == "input of the MLP of block":
        names = (f"{blocks}.{block}.{norm}" for norm in _NORMS_BEFORE_THE_MLP for blocks in _BLOCK_LISTS)
        return next((name for name in names if name in submodules), None)
    found = name_in_model(hook, submodules) if words else None
    return found[0] if found is not None and not found[1] else None
