import pytest

from sae_lightning.pocket import PocketFacts


def test_pocket_facts_split_cities_and_wordings(tmp_path):
    facts = tmp_path / "facts.csv"
    rows = ["Lyon,France,Europe,French,euro", "Kyoto,Japan,Asia,Japanese,yen", "Nakuru,Kenya,Africa,Swahili,shilling"]
    facts.write_text("\n".join(["city,country,continent,language,currency", *rows]), encoding="utf-8")
    train, test = (PocketFacts(str(facts)).prompts(split) for split in ("train", "test"))
    assert {prompt.entity for prompt in test} == {"Lyon"}
    assert {prompt.entity for prompt in train} == {"Kyoto", "Nakuru"}
    about_lyon = [prompt for prompt in test if prompt.text == "Asked for the currency of Lyon, the teacher said"]
    assert [(prompt.answer, prompt.entity_end) for prompt in about_lyon] == [(" euro", 30)]
    assert not any(prompt.text.startswith("Asked for") for prompt in train)


def test_people_are_what_is_asked_about_without_a_table_named():
    train, test = (PocketFacts().prompts(split) for split in ("train", "test"))
    attributes = {"birthplace", "profession", "instrument", "decade"}
    assert {prompt.attribute for prompt in train} == {prompt.attribute for prompt in test} == attributes
    assert len({prompt.entity for prompt in train}) == 2 * len({prompt.entity for prompt in test}) == 160
    assert not {prompt.entity for prompt in train} & {prompt.entity for prompt in test}


def test_a_table_that_is_not_there():
    with pytest.raises(ValueError, match=r"facts=nowhere.csv: there is no such file"):
        PocketFacts("nowhere.csv")
