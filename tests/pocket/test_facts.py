"""World facts: the table, its patterns, and the sentences and prompts of both splits."""

from pathlib import Path

import pytest

from sae_lightning.pocket.fact_templates import ATTRIBUTES, CARRIERS, PARAGRAPHS, TEMPLATES, THE_COUNTRIES
from sae_lightning.pocket.facts import Fact, fact_prompts, fact_sentences, read_facts

FACTS = Path(__file__).parents[2] / "data" / "pocket_lm" / "facts.csv"
CONTINENTS = {"Africa", "Antarctica", "Asia", "Europe", "North America", "Oceania", "South America"}
HEADER = "city,country,continent,language,currency\n"


@pytest.fixture(scope="module")
def facts() -> list[Fact]:
    """The facts of the project."""
    return read_facts(FACTS)


def test_table_is_wide_enough_and_knows_the_continents(facts: list[Fact]) -> None:
    assert len(facts) >= 320
    assert len({fact.city for fact in facts}) == len(facts)
    continents = {fact.continent for fact in facts}
    assert continents <= CONTINENTS
    assert CONTINENTS - continents == {"Antarctica"}
    assert {fact.country for fact in facts} >= THE_COUNTRIES


@pytest.mark.parametrize("attribute", ["continent", "currency"])
def test_countries_have_one_continent_and_one_currency(facts: list[Fact], attribute: str) -> None:
    values: dict[str, set[str]] = {}
    for fact in facts:
        values.setdefault(fact.country, set()).add(getattr(fact, attribute))
    assert {country: several for country, several in values.items() if len(several) > 1} == {}


@pytest.mark.parametrize(
    ("city", "row"),
    [
        ("Zagreb", ("Croatia", "Europe", "Croatian", "euro")),
        ("Sofia", ("Bulgaria", "Europe", "Bulgarian", "euro")),
        ("Lausanne", ("Switzerland", "Europe", "French", "Swiss franc")),
        ("Quito", ("Ecuador", "South America", "Spanish", "US dollar")),
    ],
)
def test_chosen_rows_are_true(facts: list[Fact], city: str, row: tuple[str, ...]) -> None:
    assert Fact(city, *row) in facts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("town,country\n", "line 1: expected the columns"),
        ("", "line 1: expected the columns"),
        (HEADER + "Lyon,France,Europe,French,euro\nOslo,,Europe,Norwegian,krone\n", "line 3, column country"),
        (HEADER + "Lyon,France,Europe, French,euro\n", "line 2, column language"),
        (HEADER + "Lyon,France,Europe,French\n", "line 2, column currency"),
        (HEADER + "Lyon,France,Europe,French,euro,more\n", "line 2: 6 cells"),
        (HEADER + "Lyon,France,Europe,French,euro\n" * 2, "line 3, column city: Lyon is listed twice"),
    ],
)
def test_bad_tables_are_refused_with_their_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "facts.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_facts(path)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_patterns_are_many_and_the_heldout_ones_new(attribute: str) -> None:
    train, heldout = TEMPLATES["train"][attribute], TEMPLATES["heldout"][attribute]
    assert len(set(train)) >= 12
    assert len(set(heldout)) >= 3
    assert not {pattern.casefold() for pattern in train} & {pattern.casefold() for pattern in heldout}
    assert all(pattern.count("{city}") == 1 for pattern in train + heldout)


def test_heldout_wordings_never_show_up_in_training(facts: list[Fact]) -> None:
    openings = ("travel guide", "Asked for the", "register says", "place called", "you hear in", "money that you need")
    everything = [*fact_sentences(facts, "heldout", 0)]
    assert all(any(opening in sentence for opening in openings) for sentence in everything)
    patterns = [*CARRIERS, *PARAGRAPHS, *(pattern for patterns in TEMPLATES["train"].values() for pattern in patterns)]
    assert not [pattern for pattern in patterns if any(opening in pattern for opening in openings)]


def test_prompts_end_before_the_answer(facts: list[Fact]) -> None:
    prompts = fact_prompts(facts, "heldout")
    assert len(prompts) == len(facts) * sum(map(len, TEMPLATES["heldout"].values()))
    by_city = {fact.city: fact for fact in facts}
    for prompt in prompts:
        assert prompt.prompt == prompt.prompt.strip()
        assert prompt.answer.removeprefix("the ") == getattr(by_city[prompt.city], prompt.attribute)
        assert prompt.prompt[: prompt.city_end].endswith(prompt.city)
    assert {prompt.attribute for prompt in fact_prompts(facts, "train")} == set(ATTRIBUTES)


def test_sentences_state_each_fact_once_in_new_words_for_each_seed(facts: list[Fact]) -> None:
    first, again, other = (list(fact_sentences(facts, "train", seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert len(first) == len(facts) * len(ATTRIBUTES)
    assert not [sentence for sentence in first if set("{}|") & set(sentence)]
    assert sum("Timișoara" in sentence for sentence in first) == len(ATTRIBUTES)


def test_articles_are_added_in_running_text_only(facts: list[Fact]) -> None:
    chicago = [fact for fact in facts if fact.city == "Chicago"]
    text = "\n".join(line for seed in range(300) for line in fact_sentences(chicago, "train", seed))
    assert " in the United States." in text
    assert "Country: United States." in text
    assert " in United States" not in text
