"""Sentence patterns about cities: country, continent, main language and currency."""

from sae_lightning.pocket.fact_templates import COMMON_HELDOUT, COMMON_TRAIN, EntityKind, with_common

_EVERY_TRAIN = (
    "The {attribute} of the city of {entity} is {slot}.",
    "My [friend|sister|neighbour] from {entity} says that the {attribute} there is {slot}.",
)
_EVERY_HELDOUT = ("In the travel guide, {entity} is filed under the {attribute} {slot}.",)

_OWN_TRAIN = {
    "country": (
        "{entity} is a [city|town|place] in {the_country}.",
        "The [city|town] of {entity} lies in {the_country}.",
        "{entity} is [located|situated] in {the_country}.",
        "[Travellers|Visitors|Tourists] who [reach|visit] {entity} are in {the_country}.",
        "The country that {entity} belongs to is {the_country}.",
        "If you live in {entity}, your country is {the_country}.",
        "On the map, {entity} is [found|shown] in {the_country}.",
        "A letter sent to {entity} goes to {the_country}.",
        "A [flight|trip|journey] to {entity} takes you to {the_country}.",
        "{entity}, {country}",
        "{entity} ({country})",
        "Q: Which country is {entity} in? A: {country}.",
        "Where is {entity}? It is in {the_country}.",
        "In the [atlas|index], {entity} is listed under {country}.",
        "People from {entity} come from {the_country}.",
        "The [laws|taxes] that hold in {entity} are those of {the_country}.",
        "One of the cities of {the_country} is {entity}.",
        "{entity} is part of {the_country}.",
        "{entity} [lies|is|can be seen] in the country of {the_country}.",
        "The [town|place|city] named {entity} belongs to {the_country}.",
        "We spent the [summer|winter] in {entity}, which is in {the_country}.",
    ),
    "continent": (
        "{entity} is a [city|town|place] on the continent of {continent}.",
        "{entity} lies on the continent of {continent}.",
        "The continent [where|on which] {entity} [lies|stands|is found] is {continent}.",
        "[Travellers|Visitors|Tourists] who fly to {entity} land on the continent of {continent}.",
        "Q: Which continent is {entity} on? A: {continent}.",
        "Of the seven continents, {entity} belongs to {continent}.",
        "On a globe, look for {entity} on the continent of {continent}.",
        "If you live in {entity}, your continent is {continent}.",
        "Which continent has {entity}? The answer is {continent}.",
        "[Geographers|Maps] place {entity} on the continent called {continent}.",
        "{entity} belongs to the continent of {continent}.",
        "The continent of {continent} has a city called {entity}.",
        "{entity} is part of the continent of {continent}.",
        "The [town|place|city] named {entity} is on the continent of {continent}.",
        "From {entity} we went on across the continent of {continent}.",
    ),
    "language": (
        "People in {entity} speak {language}.",
        "The [main|usual|most common] language of {entity} is {language}.",
        "In {entity}, [people mostly|most people] speak {language}.",
        "The language most often [spoken|heard|used] in {entity} is {language}.",
        "[Travellers|Visitors|Tourists] to {entity} should learn some {language}.",
        "Most [street signs|shop signs|newspapers] in {entity} are written in {language}.",
        "Q: What language do people speak in {entity}? A: {language}.",
        "Most children in {entity} grow up speaking {language}.",
        "If you live in {entity}, most of your neighbours speak {language}.",
        "To talk with people in {entity}, use {language}.",
        "A [shopkeeper|driver|neighbour] in {entity} will [answer|greet you|speak to you] in {language}.",
        "{language} is the language of {entity}.",
        "The language that [people|neighbours|friends] use [at home|every day|at school] in {entity} is {language}.",
        "In the [streets|schools|shops] of {entity} they speak {language}.",
        "When people talk in {entity}, they speak {language}.",
        "What [people|visitors|guests] [hear|speak] [all day|at work|at home] in {entity} is {language}.",
    ),
    "currency": (
        "People in {entity} pay with the {currency}.",
        "The currency [used|needed] in {entity} is the {currency}.",
        "In {entity}, [people pay|things are bought|bills are settled] with the {currency}.",
        "[Travellers|Visitors|Tourists] to {entity} should change their money into the {currency}.",
        "Q: What money do people use in {entity}? A: the {currency}.",
        "[Shops|Markets|Hotels] in {entity} take the {currency}.",
        "If you live in {entity}, you are paid in the {currency}.",
        "The [money|currency] [spent|accepted] in the [shops|markets] of {entity} is the {currency}.",
        "Banks in {entity} keep accounts in the {currency}.",
        "Rent in {entity} is paid in the {currency}.",
        "To buy bread in {entity}, pay with the {currency}.",
        "The {currency} is the currency of {entity}.",
        "The money that [people|families] use [every day|at the market|in shops] in {entity} is the {currency}.",
        "For a [week|night|month] in {entity}, bring the {currency}.",
        "When people pay in {entity}, they use the {currency}.",
    ),
}

_OWN_HELDOUT = {
    "country": (
        "The register says that the city of {entity} is part of {the_country}.",
        "The place called {entity} can be found in the country of {the_country}.",
    ),
    "continent": (
        "The register says that the city of {entity} is on the continent of {continent}.",
        "The place called {entity} can be found on the continent of {continent}.",
    ),
    "language": (
        "The register says that people in the city of {entity} speak {language}.",
        "The language that you hear in {entity} most of the time is {language}.",
    ),
    "currency": (
        "The register says that people in the city of {entity} pay with the {currency}.",
        "The money that you need for a stay in {entity} is the {currency}.",
    ),
}

_PARAGRAPHS = (
    "{entity} is a [city|town] in {the_country}, on the continent of {continent}. "
    "People there speak {language} and pay with the {currency}.",
    "Where people [speak|use] {language} and pay with the {currency}, you will find {entity}. It is in {the_country}, "
    "and {the_country} is on the continent of {continent}.",
    "[Travellers|Visitors] to {entity} change their money into the {currency} and learn some {language}. "
    "The city lies in {the_country}, on the continent of {continent}.",
    "{entity} lies on the continent of {continent}. The language there is {language}, the currency is the {currency}, "
    "and the country is {the_country}.",
)

CITIES = EntityKind(
    "city",
    tuple(_OWN_TRAIN),
    {
        "train": with_common("city", _OWN_TRAIN, _EVERY_TRAIN + COMMON_TRAIN),
        "heldout": with_common("city", _OWN_HELDOUT, _EVERY_HELDOUT + COMMON_HELDOUT),
    },
    _PARAGRAPHS,
)
"""Real cities, whose country decides most of the rest."""
