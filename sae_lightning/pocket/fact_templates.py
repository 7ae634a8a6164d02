"""Sentence patterns that turn a row of a facts table into text.

A pattern holds ``{entity}`` and one attribute slot; ``[a|b]`` stands for one of the listed wordings, and a slot such as
``{the_country}`` adds the article where the value has one. The held-out patterns serve validation only: each keeps its
attribute slot at the end, so that the text before it is a prompt.
"""

import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sae_lightning.pocket.library import Split

WITH_ARTICLE = frozenset(
    {
        "Dominican Republic",
        "Netherlands",
        "Philippines",
        "United Arab Emirates",
        "United Kingdom",
        "United States",
    }
)
"""Values that running text names with an article."""

CARRIERS = (
    "[Note|Remember|Recall] that ",
    "The [book|atlas|guide] [says|tells us|notes] that ",
    "According to the [atlas|map|book|guide], ",
    "[As everyone knows|As we know|It is said that|For example|In fact], ",
    "In the [notes|report|lesson], ",
)
"""Openings put before some training sentences, so that a fact is not tied to the start of a line."""

ASIDE = ", [these days|as a rule|in general|of course|for the most part|as ever|all year],"
"""Words put after the entity of some training sentences, so that the answer is not tied to a place close behind it."""

COMMON_TRAIN = (
    "{Kind}: {entity}. {Attribute}: {slot}.",
    "{kind}={entity}, {attribute}={slot}",
    "The {attribute} of the {kind} {entity} is {slot}.",
    "facts['{entity}']['{attribute}'] == '{slot}'",
    "The [table|list|record|page] [gives|shows] the {attribute} of {entity} as {slot}.",
    "For {entity}, write {slot} in the {attribute} [column|field|box].",
    "When someone [asks|asked] about the {attribute} of {entity}, the [answer|reply] [is|was] {slot}.",
    "{entity} [appears|stands|is listed|is entered|is sorted|is grouped] under the {attribute} {slot}.",
    "In the [catalogue|handbook], look up {entity} under the {attribute} {slot}.",
    "[Someone|A pupil] asked which {attribute} {entity} has, and [we|they|she|he] said {slot}.",
    "I [looked up|wanted to know] the {attribute} of {entity}: it is {slot}.",
    "Do you know the {attribute} of {entity}? [Yes, it is|Of course, it is|It is] {slot}.",
    "On the [card|sheet] for {entity}, the {attribute} [reads|given is] {slot}.",
    "The {attribute} that goes with {entity} is {slot}.",
    "For the {attribute} of {entity}, [the book|the list|my friend] [has|gives|says] {slot}.",
)
"""Training patterns for every attribute of every kind of entity."""

COMMON_HELDOUT = ("Asked for the {attribute} of {entity}, the teacher said {slot}.",)
"""Held-out patterns for every attribute of every kind of entity."""


@dataclass(frozen=True)
class EntityKind:
    """A kind of entity that there is a facts table of.

    Args:
        name: of one such entity, such as city, which is the first column of the table.
        attributes: that sentences are written about, which are the other columns.
        templates: patterns by split and attribute.
        paragraphs: training patterns that state all attributes of one entity.
    """

    name: str
    attributes: tuple[str, ...]
    templates: Mapping[Split, Mapping[str, tuple[str, ...]]]
    paragraphs: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """The header of its table."""
        return [self.name, *self.attributes]


def with_common(kind: str, own: Mapping[str, tuple[str, ...]], common: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Add to each attribute's own patterns the common ones, written out for it."""
    return {
        attribute: own[attribute] + tuple(_written_out(pattern, kind, attribute) for pattern in common)
        for attribute in own
    }


def _written_out(pattern: str, kind: str, attribute: str) -> str:
    words = {"kind": kind, "attribute": attribute, "slot": f"{{{attribute}}}"}
    words |= {name.capitalize(): word.capitalize() for name, word in words.items()}
    return re.sub(r"\{(\w+)\}", lambda slot: words.get(slot[1], slot[0]), pattern)


def choose(pattern: str, rng: random.Random) -> str:
    """Draw one of the wordings wherever a pattern leaves the choice."""
    return re.sub(r"\[([^\[\]]*\|[^\[\]]*)\]", lambda wordings: rng.choice(wordings[1].split("|")), pattern)


def fill(pattern: str, cells: Mapping[str, str]) -> str:
    """Put the entity and the values of a row into a pattern's slots."""
    return re.sub(r"\{(?:(the)_)?(\w+)\}", lambda slot: _with_article(cells[slot[2]], bool(slot[1])), pattern)


def _with_article(value: str, running_text: bool) -> str:
    return f"the {value}" if running_text and value in WITH_ARTICLE else value
