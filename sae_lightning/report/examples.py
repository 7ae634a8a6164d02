"""Examples of a latent as plain values, which the page draws."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from sae_lightning.interpretation.excerpts import Example, Excerpt
from sae_lightning.interpretation.image_examples import ImageExample, is_patch_strongest
from sae_lightning.report.directions import short

Shown: TypeAlias = Example | ImageExample
_N_BEFORE, _N_AFTER = 10, 5


def plain(example: Shown) -> dict[str, Any]:
    """A text with its activations, or the number of a picture with the map of its patches."""
    if isinstance(example, Example):
        activations = [short(activation) for activation in example.activations]
        return {"type": "text", "tokens": list(example.excerpt.tokens), "activations": activations}
    found: dict[str, Any] = {"type": "image", "picture": example.image, "activation": short(example.activation)}
    if example.heat is not None:
        # Two digits of a colour are more than can be seen, and maps are most of the page.
        found["heat"] = [[float(f"{value:.2g}") or 0 for value in row] for row in example.heat.tolist()]
        if not is_patch_strongest(example):
            found["elsewhere"] = True
    return found


def plain_quarter(examples: Sequence[Shown]) -> list[dict[str, Any]]:
    """As `plain`, but of texts what is around their strongest token, since there are many, and none twice."""
    found: list[dict[str, Any]] = []
    for example in examples:
        of = plain(_window(example) if isinstance(example, Example) else example)
        if of["type"] == "image" or of["tokens"] not in [other["tokens"] for other in found]:
            found.append(of)
    return found


def _window(example: Example) -> Example:
    peak = max(range(len(example.activations)), key=example.activations.__getitem__)
    around = slice(max(0, peak - _N_BEFORE), peak + _N_AFTER + 1)
    excerpt = Excerpt(example.excerpt.tokens[around], example.excerpt.start + around.start)
    return Example(excerpt, example.activations[around])
