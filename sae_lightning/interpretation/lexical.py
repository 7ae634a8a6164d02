"""`LexicalJudge`: explains latents by the tokens on which they fire. No model, no network, always the same answer."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from typing_extensions import override

from sae_lightning.checks import check_inside, check_whole
from sae_lightning.interpretation.excerpts import Example, Excerpt
from sae_lightning.interpretation.judge import Explanation, Judge
from sae_lightning.interpretation.token_classes import classes, quote_state

Property: TypeAlias = tuple[str, ...]
"""A property of a token: its kind, one of `_WORDS`, and its values."""

# In words, the simplest first: of two that explain equally many texts, the simpler one is taken.
_WORDS = {
    "token": "{0!r}",
    "word": "the word {0} in any spelling",
    "class": "{0}",
    "ending": "a word ending in -{0}",
    "inside": "a token {0}",
    "first": "one of the first {0} tokens of a row",
    "after": "a token after {0!r}",
    "after class": "a token after {0}",
    "class after": "{0} after {1!r}",
}
_KINDS = list(_WORDS)
_FIRST = 4
_STRONG = 0.5  # of the peak: tokens that fire less are not what an example is about
_MIN_EXAMPLES = 2  # that a property has to explain: one is an accident


@dataclass(frozen=True)
class Rule(Explanation):
    """A token with one of some properties makes the latent fire.

    Args:
        text: in words.
        properties: any of which is enough; none for a rule that never fires.
    """

    properties: frozenset[Property]


class LexicalJudge(Judge):
    """Explain a latent by properties of the tokens on which it fires, and needs no model.

    A property is the token or the word itself, a class (number, capitalised word, operator, indentation, part of a
    string or of a comment ...), a word's ending, the token or class before it, both at once, or a place at the start of
    the row. A rule says that one of up to n_terms properties is met. They are taken one after the other, each time
    the one that adds most to (share of the shown texts it explains) - (share of contrast texts it is met in), until
    nothing adds min_gain. A shown text counts as explained only by a token that fires strongly there. Without any
    property the rule never fires, and is correct in half of the cases.

    It cannot see meaning: a topic, a sense of a word, syntax beyond one token back, what comes later, a count. A latent
    that it scores at 0.5 may be clear to a reader. So its scores say how much latents depend on single tokens, where
    rare ones do well, and not how many of them a person would understand: a frozen decoder may be ahead. Strings and
    comments are those of Python, and one that began before the text is not noticed.

    Args:
        n_terms: properties in a rule at most, 1 or more.
        min_gain: what a further property must add, above 0 and below 1.
    """

    def __init__(self, n_terms: int = 4, min_gain: float = 0.1) -> None:
        check_whole(1, n_terms=n_terms)
        check_inside(0, 1, min_gain=min_gain, hint="for example 0.1")
        self.n_terms, self.min_gain = n_terms, min_gain

    @override
    def explain(self, shown: Sequence[Example], contrast: Sequence[Excerpt]) -> Rule:
        to_explain = [_strong_properties(example) for example in shown]
        to_avoid = [_all_properties(excerpt) for excerpt in contrast]
        rule: list[Property] = []
        while len(rule) < self.n_terms:
            best = _best(to_explain, to_avoid, len(shown), max(1, len(contrast)))
            if best is None or best[0] < self.min_gain:
                break
            rule.append(best[1])
            # Texts that the rule covers have no more say in what is added to it.
            to_explain, to_avoid = (
                [properties for properties in texts if best[1] not in properties] for texts in (to_explain, to_avoid)
            )
        words = "fires on " + ", or ".join(_WORDS[kind].format(*values) for kind, *values in rule)
        return Rule(words if rule else "no property of single tokens tells when it fires", frozenset(rule))

    @override
    def judge(self, explanation: Explanation, excerpts: Sequence[Excerpt]) -> list[bool | None]:
        assert isinstance(explanation, Rule)
        return [not explanation.properties.isdisjoint(_all_properties(excerpt)) for excerpt in excerpts]


def _best(
    to_explain: Sequence[frozenset[Property]], to_avoid: Sequence[frozenset[Property]], n_shown: int, n_contrast: int
) -> tuple[float, Property] | None:
    """Return how much the best property adds, and that property."""
    explained = Counter(candidate for text in to_explain for candidate in text)
    met = Counter(candidate for text in to_avoid for candidate in text if candidate in explained)
    gains = [
        (n / n_shown - met[candidate] / n_contrast, -_KINDS.index(candidate[0]), candidate)
        for candidate, n in explained.items()
        if n >= min(_MIN_EXAMPLES, n_shown)
    ]
    if not gains:
        return None
    gain, _, best = max(gains)
    return gain, best


def _strong_properties(example: Example) -> frozenset[Property]:
    """Return the properties of the tokens on which the latent fires strongly."""
    least = _STRONG * max(example.activations)
    strong = (i for i, activation in enumerate(example.activations) if activation >= least)
    by_token = token_properties(example.excerpt)
    return frozenset().union(*(by_token[i] for i in strong))


@lru_cache(maxsize=65536)
def _all_properties(excerpt: Excerpt) -> frozenset[Property]:
    return frozenset().union(*token_properties(excerpt))


@lru_cache(maxsize=65536)
def token_properties(excerpt: Excerpt) -> tuple[frozenset[Property], ...]:
    """Return the properties of each token."""
    by_token: list[frozenset[Property]] = []
    before: str | None = None
    classes_before: tuple[str, ...] = ()
    for i, (token, state) in enumerate(zip(excerpt.tokens, quote_state(excerpt.tokens), strict=True)):
        own = classes(token, before)
        properties: set[Property] = {("token", token)}
        properties.update(("class", name) for name in own)
        properties.update(("inside", name) for name in state)
        word = token.strip()
        if word.isalpha():
            properties.add(("word", word.lower()))
            if len(word) > 4:
                properties.add(("ending", word[-3:].lower()))
        if excerpt.start + i < _FIRST:
            properties.add(("first", str(_FIRST)))
        if before is not None:
            properties.add(("after", before))
            properties.update(("after class", name) for name in classes_before)
            properties.update(("class after", name, before) for name in own)
        by_token.append(frozenset(properties))
        before, classes_before = token, own
    return tuple(by_token)
