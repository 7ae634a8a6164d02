"""Places in a model in the words of other libraries, and where they are for transformers."""

import re

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
