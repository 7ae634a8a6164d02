"""Pairs of prompts: what goes from a source into a base, and what the model should answer then.

A cause pair asks both for the attribute whose values are to be swapped, and looks for the answer of the source. An
isolation pair asks the base for another attribute, and looks for the answer of the base. The two entities differ in
both attributes, so that swapping everything fails in isolation and swapping nothing fails in cause.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sae_lightning.causal.prompts import EntityPrompt

_TRIES = 64  # sources tried before a base is given up: two of six continents differ more often


@dataclass(frozen=True)
class Pair:
    """Two of a list of prompts, and what the model should answer.

    Args:
        base: index of the prompt that the model reads.
        source: index of the prompt whose entity gives what is swapped in.
        answer: looked for.
        is_cause: it is the answer of the source; in an isolation pair that of the base.
    """

    base: int
    source: int
    answer: str
    is_cause: bool


def draw_pairs(
    prompts: Sequence[EntityPrompt], values: Mapping[tuple[str, str], str], attribute: str, n: int, seed: int
) -> list[Pair]:
    """Draw n cause pairs of an attribute, then n isolation pairs, of each other attribute as many.

    Every base is taken once before one is taken again, with another source.

    Args:
        prompts: that the model answers correctly, of one part.
        values: what is true, by entity and attribute.
        attribute: whose values are to be swapped.
        n: pairs of each kind.
        seed: of the draw, which depends on nothing else.

    Raises:
        ValueError: if there are no such pairs.
    """
    rng = random.Random(f"{attribute} {seed}")
    by_attribute: dict[str, list[int]] = {}
    for i, prompt in enumerate(prompts):
        if (prompt.entity, attribute) in values:
            by_attribute.setdefault(prompt.attribute, []).append(i)
    sources = by_attribute.pop(attribute, [])
    if not sources or not by_attribute:
        raise ValueError(f"no pairs for {attribute}: they need known prompts about it, and about another attribute")

    def differ(base: int, source: int, queried: str) -> bool:
        """Return whether both values are known of both entities, and differ."""
        base_values, source_values = (
            [values.get((prompts[i].entity, name)) for name in (attribute, queried)] for i in (base, source)
        )
        return all(a and b and a != b for a, b in zip(base_values, source_values, strict=True))

    def match(bases: list[int], n: int) -> list[tuple[int, int]]:
        """Find a source for each base, again and again until there are n pairs."""
        queried, matches = prompts[bases[0]].attribute, list[tuple[int, int]]()
        while len(matches) < n:
            n_before = len(matches)
            for base in rng.sample(bases, len(bases)):
                candidates = rng.choices(sources, k=_TRIES)
                matches += [(base, source) for source in candidates if differ(base, source, queried)][:1]
            if len(matches) == n_before:
                raise ValueError(
                    f"no pairs for {attribute}: among the entities that the model knows no two differ in it and in "
                    f"{queried}; leave out one of them, or give more entities"
                )
        return matches[:n]

    cause = [Pair(base, source, prompts[source].answer, True) for base, source in match(sources, n)]
    # As many of each other attribute, and one more of the first few where n does not divide.
    shares = [len(range(i, n, len(by_attribute))) for i in range(len(by_attribute))]
    return cause + [
        Pair(base, source, prompts[base].answer, False)
        for bases, share in zip(by_attribute.values(), shares, strict=True)
        for base, source in match(bases, share)
    ]
