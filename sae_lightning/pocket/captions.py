"""Captions of `PocketImages`: many phrasings, each about some of the attributes.

A pattern's ``{}`` stands for the value; ``[a|b]`` stands for one of the listed wordings.
"""

import random
import re
from collections.abc import Mapping

from sae_lightning.pocket.fact_templates import choose

PROMPTS = {
    "shape": ("a {}", "a picture of a {}", "the shape is a {}"),
    "colour": ("a {} object", "a picture of something {}", "the colour is {}"),
    "size": ("a {} object", "a picture of something {}", "the size is {}"),
    "position": ("an object at the {}", "something at the {} of the picture", "the position is {}"),
    "count": ("the count is {}", "a picture with {} of them", "the number of objects is {}"),
    "background": ("a {} background", "a picture with a {} background", "the background is {}"),
    "digit": ("the digit {}", "a picture of the digit {}", "a handwritten {}"),
}
"""For each attribute the captions that ask for it."""

_OPENINGS = (
    "",
    "[a|the] [picture|image|photo|drawing|view] of ",
    "[this|the picture|the image|it] [shows|is|has] ",
    "[there is|we see|you see|i see|look at|here is|it has] ",
    "[a|the] [picture|image|photo|drawing] [with|showing|that shows] ",
)
_FACTS = {
    "shape": ("[the|its] shape is [a|the] {}", "shape : {}", "it is a {}"),
    "colour": ("[the|its] [colour|color] is {}", "[colour|color] : {}", "it is {}", "{} is the [colour|color]"),
    "size": ("[the|its] size is {}", "size : {}", "it is {}"),
    "position": ("the position is {}", "position : {}", "it is [at|on|in] the {}", "it [stands|lies] at the {}"),
    "count": (
        "the count is {}",
        "count : {}",
        "the number of [objects|them|shapes] is {}",
        "there [is|are] [exactly|just|] {}",
        "[a picture|an image] with {} of them",
    ),
    "background": (
        "the background is {}",
        "background : {}",
        "[a|the] {} background",
        "[a picture|an image] with [a|the] {} background",
    ),
    "digit": ("the digit is [a|] {}", "digit : {}", "it is [a|the] [digit|number] {}", "it [says|reads] {}"),
}
_PLACES = {
    "left": "[at|on] the left [side|] [of the picture|]",
    "right": "[at|on] the right [side|] [of the picture|]",
    "top": "at the top [of the picture|]",
    "bottom": "at the bottom [of the picture|]",
    "centre": "[at|in] the [centre|center|middle] [of the picture|]",
}
_THINGS = "[object|thing|shape|figure]"
_SHARES = (0.5, 0.25, 0.15, 0.1)  # of captions about one, two, three and all attributes
_LISTED = 0.3  # share of captions about at most three attributes that list facts; the others are a phrase


def caption(labels: Mapping[str, str], rng: random.Random) -> tuple[str, list[str]]:
    """Describe an image whose attributes have the values in `labels`.

    Returns:
        The caption, and the attributes that it mentions.
    """
    n_mentioned = rng.choices((1, 2, 3, len(labels)), _SHARES)[0]
    mentioned = rng.sample(list(labels), n_mentioned)
    if n_mentioned <= 3 and rng.random() < _LISTED:
        facts = (rng.choice(_FACTS[name]).format(_word(name, labels[name], rng)) for name in mentioned)
        text = choose("[,|and|;]", rng).join(f" {fact} " for fact in facts)
    else:
        text = _phrase({name: labels[name] for name in mentioned}, rng)
    words = " ".join(choose(text, rng).split())
    return re.sub(r"\ba (?=image|object)", "an ", words), mentioned


def _word(attribute: str, value: str, rng: random.Random) -> str:
    """Spell the value of an attribute; only the centre has several names."""
    return choose("[centre|center|middle]", rng) if attribute == "position" and value == "centre" else value


def _phrase(values: Mapping[str, str], rng: random.Random) -> str:
    """Write a noun with these values of its attributes, and the background before or after it."""
    noun = _noun(values, rng)
    if "background" in values:
        behind = f"a {values['background']} background"
        parts = (f"{noun} [with|on|against|in front of] {behind}", f"{behind} with {noun}")
        noun = behind if len(values) == 1 and rng.random() < 0.5 else rng.choice(parts)
    return rng.choice(_OPENINGS) + noun


def _noun(values: Mapping[str, str], rng: random.Random) -> str:
    """Write what is shown, without its background."""
    size, colour = values.get("size", ""), values.get("colour", "")
    if "digit" in values:
        written = choose("[handwritten|written|]", rng)
        return f"[a|the] {colour} {written} [digit|number|] {values['digit']}"
    adjectives = f"{size} {colour}"
    place = _PLACES[values["position"]] if "position" in values else ""
    several = values.get("count") in ("two", "three") or ("count" not in values and rng.random() < 0.2)
    if "shape" not in values and "count" not in values and rng.random() < 0.4:
        return f"something {adjectives} {place}"
    noun = values.get("shape", _THINGS)
    if several:
        noun = "crosses" if noun == "cross" else f"{choose(noun, rng)}s"
    number = values.get("count") or ("" if several else "a")
    if number == "one":
        number = "[one|a single|just one]"
    return f"{number} {adjectives} {noun} {place}"
