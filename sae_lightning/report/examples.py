"""Examples of a latent as plain values, which the page draws."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from sae_lightning.interpretation.excerpts import Example, Excerpt
from sae_lightning.interpretation.image_examples import ImageExample, is_patch_strongest
from sae_lightning.report.directions import short

AnyExample: TypeAlias = Example | ImageExample
_N_BEFORE, _N_AFTER = 10, 5


def plain(example: AnyExample) -> dict[str, Any]:
    """Return a text with its activations, or the number of an image with the map of its patches."""
    if isinstance(example, Example):
        activations = [short(activation) for activation in example.activations]
        return {"type": "text", "tokens": list(example.excerpt.tokens), "activations": activations}
    values: dict[str, Any] = {"type": "image", "image": example.image, "activation": short(example.activation)}
    if example.heat is not None:
        # Two digits of a colour are more than can be seen, and maps are most of the page.
        values["heat"] = [[float(f"{value:.2g}") or 0 for value in row] for row in example.heat.tolist()]
        if not is_patch_strongest(example):
            values["elsewhere"] = True
    return values


def plain_quarter(examples: Sequence[AnyExample]) -> list[dict[str, Any]]:
    """Return examples as `plain` does, none twice, and of texts what is around their strongest token: they are many."""
    quarter: list[dict[str, Any]] = []
    for example in examples:
        values = plain(_window(example) if isinstance(example, Example) else example)
        if values["type"] == "image" or values["tokens"] not in [other["tokens"] for other in quarter]:
            quarter.append(values)
    return quarter


def _window(example: Example) -> Example:
    peak = max(range(len(example.activations)), key=example.activations.__getitem__)
    around = slice(max(0, peak - _N_BEFORE), peak + _N_AFTER + 1)
    excerpt = Excerpt(example.excerpt.tokens[around], example.excerpt.start + around.start)
    return Example(excerpt, example.activations[around])
