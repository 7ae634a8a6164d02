"""Facts tables, their patterns, and the sentences and prompts of both splits."""

import importlib.util
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from sae_lightning.pocket.fact_templates import CARRIERS, WITH_ARTICLE, EntityKind
from sae_lightning.pocket.facts import KINDS, Entity, fact_documents, fact_prompts, fact_sentences, read_facts

FOLDER = Path(__file__).parents[2] / "data" / "pocket_lm"
CONTINENTS = {"Africa", "Antarctica", "Asia", "Europe", "North America", "Oceania", "South America"}
HEADER = "city,country,continent,language,currency\n"
ATTRIBUTES = [(kind, attribute) for kind in KINDS for attribute in kind.attributes]


@pytest.fixture(scope="module")
def cities() -> list[Entity]:
    """The cities of the project."""
    return read_facts(FOLDER / "facts.csv")


@pytest.fixture(scope="module")
def people() -> list[Entity]:
    """The invented people of the project."""
    return read_facts(FOLDER / "people.csv")


@pytest.fixture(scope="module")
def entities(cities: list[Entity], people: list[Entity]) -> list[Entity]:
    """All that the pocket language model knows."""
    return cities + people


def test_table_is_wide_enough_and_knows_the_continents(cities: list[Entity]) -> None:
    assert len(cities) >= 320
    assert len({city.name for city in cities}) == len(cities)
    continents = {city.values["continent"] for city in cities}
    assert continents <= CONTINENTS
    assert CONTINENTS - continents == {"Antarctica"}
    assert {city.values["country"] for city in cities} >= WITH_ARTICLE


@pytest.mark.parametrize("attribute", ["continent", "currency"])
def test_countries_have_one_continent_and_one_currency(cities: list[Entity], attribute: str) -> None:
    values: dict[str, set[str]] = {}
    for city in cities:
        values.setdefault(city.values["country"], set()).add(city.values[attribute])
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
def test_chosen_rows_are_true(cities: list[Entity], city: str, row: tuple[str, ...]) -> None:
    kind = KINDS[0]
    assert Entity(kind, city, dict(zip(kind.attributes, row, strict=True))) in cities


def test_people_are_told_by_their_last_names(people: list[Entity]) -> None:
    assert len(people) >= 200
    last_names = {person.name.split()[-1] for person in people}
    assert len(last_names) == len(people)


def test_an_attribute_of_people_says_nothing_about_another(people: list[Entity]) -> None:
    for attribute, other in combinations(KINDS[1].attributes, 2):
        counts = Counter((person.values[attribute], person.values[other]) for person in people)
        rows, columns = (Counter(person.values[name] for person in people) for name in (attribute, other))
        assert len(rows) >= 8
        assert max(rows.values()) == min(rows.values()), "each value equally often"
        expected = len(people) / len(rows) / len(columns)
        freedom = (len(rows) - 1) * (len(columns) - 1)
        chi_squared = sum((counts[a, b] - expected) ** 2 / expected for a in rows for b in columns)
        assert abs(chi_squared - freedom) < 3 * (2 * freedom) ** 0.5


def test_the_table_of_people_is_what_its_script_draws(people: list[Entity]) -> None:
    spec = importlib.util.spec_from_file_location("people", FOLDER / "people.py")
    assert spec
    assert spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    header, *rows = script.people_rows()
    assert header == KINDS[1].columns
    assert rows == [[person.name, *person.values.values()] for person in people]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("town,country\n", "line 1: expected the columns city,country,.* or person,birthplace,.*, found town,country"),
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


@pytest.mark.parametrize(("kind", "attribute"), ATTRIBUTES)
def test_patterns_are_many_and_the_heldout_ones_new(kind: EntityKind, attribute: str) -> None:
    train, heldout = kind.templates["train"][attribute], kind.templates["heldout"][attribute]
    assert len(set(train)) >= 12
    assert len(set(heldout)) >= 3
    assert not {pattern.casefold() for pattern in train} & {pattern.casefold() for pattern in heldout}
    assert all(pattern.count("{entity}") == 1 for pattern in train + heldout)


def test_heldout_wordings_never_show_up_in_training(entities: list[Entity]) -> None:
    openings = ("travel guide", "Asked for the", "register says", "place called", "you hear in", "you hear from")
    openings += ("money that you need", "old album", "calls the land", "talk about the work", "time when")
    everything = [*fact_sentences(entities, "heldout", 0)]
    assert all(any(opening in sentence for opening in openings) for sentence in everything)
    templates = [pattern for kind in KINDS for patterns in kind.templates["train"].values() for pattern in patterns]
    patterns = [*CARRIERS, *(pattern for kind in KINDS for pattern in kind.paragraphs), *templates]
    assert not [pattern for pattern in patterns if any(opening in pattern for opening in openings)]


def test_prompts_end_before_the_answer(entities: list[Entity]) -> None:
    prompts = fact_prompts(entities, "heldout")
    patterns = {kind.name: sum(map(len, kind.templates["heldout"].values())) for kind in KINDS}
    assert len(prompts) == sum(patterns[entity.kind.name] for entity in entities)
    by_name = {entity.name: entity for entity in entities}
    for prompt in prompts:
        assert prompt.prompt == prompt.prompt.strip()
        assert prompt.answer.removeprefix("the ") == by_name[prompt.entity].values[prompt.attribute]
        assert prompt.prompt[: prompt.entity_end].endswith(prompt.entity)
    assert {prompt.attribute for prompt in fact_prompts(entities, "train")} == {name for _, name in ATTRIBUTES}


def test_a_prompt_has_one_true_answer(people: list[Entity]) -> None:
    for split in ("train", "heldout"):
        prompts = {prompt.prompt: prompt.attribute for prompt in fact_prompts(people[:1], split)}
        assert len(prompts) == len(fact_prompts(people[:1], split)), "no two attributes are asked for in the same words"


def test_sentences_state_each_fact_once_in_new_words_for_each_seed(entities: list[Entity]) -> None:
    first, again, other = (list(fact_sentences(entities, "train", seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert len(first) == sum(len(entity.values) for entity in entities)
    assert not [sentence for sentence in first if set("{}|") & set(sentence)]
    for name in ("Timișoara", entities[-1].name):
        assert sum(name in sentence for sentence in first) == 4


def test_records_and_paragraphs_state_every_attribute(people: list[Entity]) -> None:
    documents = fact_documents(people[:1], "train", seed=0)
    text = [next(documents) for _ in range(200)]
    whole = [document for document in text if all(value in document for value in people[0].values.values())]
    assert any(document.startswith("Person(person='") for document in whole)
    assert any(document.startswith('{"person": "') for document in whole)
    assert any(" and plays the " in document for document in whole)


def test_articles_are_added_in_running_text_only(cities: list[Entity]) -> None:
    chicago = [city for city in cities if city.name == "Chicago"]
    text = "\n".join(line for seed in range(300) for line in fact_sentences(chicago, "train", seed))
    assert " in the United States." in text
    assert "Country: United States." in text
    assert " in United States" not in text
