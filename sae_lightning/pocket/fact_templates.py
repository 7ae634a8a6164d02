"""Sentence patterns that turn a row of the facts table into text.

A pattern holds ``{city}`` and one attribute slot; ``[a|b]`` stands for one of the listed wordings. The held-out
patterns serve validation only: each keeps its attribute slot at the end, so that the text before it is a prompt.
"""

import random
import re
from collections.abc import Mapping

ATTRIBUTES = ("country", "continent", "language", "currency")
"""The attributes of a city that sentences are written about."""

THE_COUNTRIES = frozenset(
    {
        "Dominican Republic",
        "Netherlands",
        "Philippines",
        "United Arab Emirates",
        "United Kingdom",
        "United States",
    }
)
"""Countries named with an article in running text, which the slot ``{the_country}`` adds."""

CARRIERS = (
    "[Note|Remember|Recall] that ",
    "The [book|atlas|guide] [says|tells us|notes] that ",
    "According to the [atlas|map|book|guide], ",
    "[As everyone knows|As we know|It is said that|For example|In fact], ",
    "In the [notes|report|lesson], ",
)
"""Openings put before some training sentences, so that a fact is not tied to the start of a line."""

ASIDE = ", [these days|as a rule|in general|of course|for the most part|as ever|all year],"
"""Words put after the city of some training sentences, so that the answer is not tied to a place close behind it."""

_TABLE = "The [table|list|record|page] [gives|shows] the {attribute} of {city} as "
_COMMON_TRAIN = (
    "City: {city}. {Attribute}: {slot}.",
    "city={city}, {attribute}={slot}",
    "The {attribute} of the city of {city} is {slot}.",
    "facts['{city}']['{attribute}'] == '{slot}'",
    _TABLE + "{slot}.",
    "For {city}, write {slot} in the {attribute} [column|field|box].",
    "When someone [asks|asked] about the {attribute} of {city}, the [answer|reply] [is|was] {slot}.",
    "{city} [appears|stands|is listed|is entered|is sorted|is grouped] under the {attribute} {slot}.",
    "In the [catalogue|handbook], look up {city} under the {attribute} {slot}.",
    "My [friend|sister|neighbour] from {city} says that the {attribute} there is {slot}.",
    "[Someone|A pupil] asked which {attribute} {city} has, and [we|they|she|he] said {slot}.",
    "I [looked up|wanted to know] the {attribute} of {city}: it is {slot}.",
    "Do you know the {attribute} of {city}? [Yes, it is|Of course, it is|It is] {slot}.",
    "On the [card|sheet] for {city}, the {attribute} [reads|given is] {slot}.",
    "The {attribute} that goes with {city} is {slot}.",
    "For the {attribute} of {city}, [the book|the atlas|my friend] [has|gives|says] {slot}.",
)

_OWN_TRAIN = {
    "country": (
        "{city} is a [city|town|place] in {the_country}.",
        "The [city|town] of {city} lies in {the_country}.",
        "{city} is [located|situated] in {the_country}.",
        "[Travellers|Visitors|Tourists] who [reach|visit] {city} are in {the_country}.",
        "The country that {city} belongs to is {the_country}.",
        "If you live in {city}, your country is {the_country}.",
        "On the map, {city} is [found|shown] in {the_country}.",
        "A letter sent to {city} goes to {the_country}.",
        "A [flight|trip|journey] to {city} takes you to {the_country}.",
        "{city}, {country}",
        "{city} ({country})",
        "Q: Which country is {city} in? A: {country}.",
        "Where is {city}? It is in {the_country}.",
        "In the [atlas|index], {city} is listed under {country}.",
        "People from {city} come from {the_country}.",
        "The [laws|taxes] that hold in {city} are those of {the_country}.",
        "One of the cities of {the_country} is {city}.",
        "{city} is part of {the_country}.",
        "{city} [lies|is|can be seen] in the country of {the_country}.",
        "The [town|place|city] named {city} belongs to {the_country}.",
        "We spent the [summer|winter] in {city}, which is in {the_country}.",
    ),
    "continent": (
        "{city} is a [city|town|place] on the continent of {continent}.",
        "{city} lies on the continent of {continent}.",
        "The continent [where|on which] {city} [lies|stands|is found] is {continent}.",
        "[Travellers|Visitors|Tourists] who fly to {city} land on the continent of {continent}.",
        "Q: Which continent is {city} on? A: {continent}.",
        "Of the seven continents, {city} belongs to {continent}.",
        "On a globe, look for {city} on the continent of {continent}.",
        "If you live in {city}, your continent is {continent}.",
        "Which continent has {city}? The answer is {continent}.",
        "[Geographers|Maps] place {city} on the continent called {continent}.",
        "{city} belongs to the continent of {continent}.",
        "The continent of {continent} has a city called {city}.",
        "{city} is part of the continent of {continent}.",
        "The [town|place|city] named {city} is on the continent of {continent}.",
        "From {city} we went on across the continent of {continent}.",
    ),
    "language": (
        "People in {city} speak {language}.",
        "The [main|usual|most common] language of {city} is {language}.",
        "In {city}, [people mostly|most people] speak {language}.",
        "The language most often [spoken|heard|used] in {city} is {language}.",
        "[Travellers|Visitors|Tourists] to {city} should learn some {language}.",
        "Most [street signs|shop signs|newspapers] in {city} are written in {language}.",
        "Q: What language do people speak in {city}? A: {language}.",
        "Most children in {city} grow up speaking {language}.",
        "If you live in {city}, most of your neighbours speak {language}.",
        "To talk with people in {city}, use {language}.",
        "A [shopkeeper|driver|neighbour] in {city} will [answer|greet you|speak to you] in {language}.",
        "{language} is the language of {city}.",
        "The language that [people|neighbours|friends] use [at home|every day|at school] in {city} is {language}.",
        "In the [streets|schools|shops] of {city} they speak {language}.",
        "When people talk in {city}, they speak {language}.",
        "What [people|visitors|guests] [hear|speak] [all day|at work|at home] in {city} is {language}.",
    ),
    "currency": (
        "People in {city} pay with the {currency}.",
        "The currency [used|needed] in {city} is the {currency}.",
        "In {city}, [people pay|things are bought|bills are settled] with the {currency}.",
        "[Travellers|Visitors|Tourists] to {city} should change their money into the {currency}.",
        "Q: What money do people use in {city}? A: the {currency}.",
        "[Shops|Markets|Hotels] in {city} take the {currency}.",
        "If you live in {city}, you are paid in the {currency}.",
        "The [money|currency] [spent|accepted] in the [shops|markets] of {city} is the {currency}.",
        "Banks in {city} keep accounts in the {currency}.",
        "Rent in {city} is paid in the {currency}.",
        "To buy bread in {city}, pay with the {currency}.",
        "The {currency} is the currency of {city}.",
        "The money that [people|families|friends] use [every day|at the market|in shops] in {city} is the {currency}.",
        "For a [week|night|month] in {city}, bring the {currency}.",
        "When people pay in {city}, they use the {currency}.",
    ),
}

_OWN_HELDOUT = {
    "country": (
        "The register says that the city of {city} is part of {the_country}.",
        "The place called {city} can be found in the country of {the_country}.",
    ),
    "continent": (
        "The register says that the city of {city} is on the continent of {continent}.",
        "The place called {city} can be found on the continent of {continent}.",
    ),
    "language": (
        "The register says that people in the city of {city} speak {language}.",
        "The language that you hear in {city} most of the time is {language}.",
    ),
    "currency": (
        "The register says that people in the city of {city} pay with the {currency}.",
        "The money that you need for a stay in {city} is the {currency}.",
    ),
}
_COMMON_HELDOUT = (
    "In the travel guide, {city} is filed under the {attribute} {slot}.",
    "Asked for the {attribute} of {city}, the teacher said {slot}.",
)


def _complete(own: Mapping[str, tuple[str, ...]], common: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Write the patterns shared by all attributes out for each one and add them to its own."""
    return {
        attribute: own[attribute]
        + tuple(
            pattern.replace("{attribute}", attribute)
            .replace("{Attribute}", attribute.capitalize())
            .replace("{slot}", "{" + attribute + "}")
            for pattern in common
        )
        for attribute in ATTRIBUTES
    }


TEMPLATES = {"train": _complete(_OWN_TRAIN, _COMMON_TRAIN), "heldout": _complete(_OWN_HELDOUT, _COMMON_HELDOUT)}
"""Patterns by split and attribute."""

PARAGRAPHS = (
    "{city} is a [city|town] in {the_country}, on the continent of {continent}. "
    "People there speak {language} and pay with the {currency}.",
    "Where people [speak|use] {language} and pay with the {currency}, you will find {city}. It is in {the_country}, "
    "and {the_country} is on the continent of {continent}.",
    "[Travellers|Visitors] to {city} change their money into the {currency} and learn some {language}. "
    "The city lies in {the_country}, on the continent of {continent}.",
    "{city} lies on the continent of {continent}. The language there is {language}, the currency is the {currency}, "
    "and the country is {the_country}.",
)
"""Training patterns that state all attributes of one city."""


def choose(pattern: str, rng: random.Random) -> str:
    """Draw one of the wordings wherever a pattern leaves the choice."""
    return re.sub(r"\[([^\[\]]*\|[^\[\]]*)\]", lambda wordings: rng.choice(wordings[1].split("|")), pattern)


def fill(pattern: str, cells: Mapping[str, str]) -> str:
    """Put the cells of a row of the facts table into a pattern's slots."""
    country = cells["country"]
    cells = {**cells, "the_country": f"the {country}" if country in THE_COUNTRIES else country}
    return re.sub(r"\{(\w+)\}", lambda slot: cells[slot[1]], pattern)
