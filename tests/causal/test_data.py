import json
from pathlib import Path

import pytest

from sae_lightning.causal import EntityPrompt, FactFile, RavelFiles, draw_pairs


@pytest.fixture
def ravel(tmp_path):
    def save(name, value):
        (tmp_path / f"ravel_city_{name}.json").write_text(json.dumps(value), encoding="utf-8")

    save("attribute_to_prompts", {"Country": ["%s lies in", '"city": "%s", "country": "'], "Language": ["In %s:"]})
    save(
        "entity_attributes",
        {
            "Lyon": {"Country": "France", "Language": "French"},
            "Kyiv": {"Country": "Ukraine", "Language": "Ukrainian,Russian"},
            "Nowhere": {"Country": "", "Language": "None"},
        },
    )
    save("entity_to_split", {"Lyon": "train", "Kyiv": "test", "Nowhere": "train"})
    save("prompt_to_split", {"%s lies in": "train", '"city": "%s", "country": "': "train", "In %s:": "test"})
    return str(tmp_path)


def test_ravel_files(ravel):
    reader = RavelFiles(ravel, {"city": ["Country", "Language"]})
    assert reader.prompts("train") == [
        EntityPrompt("Lyon lies in", "Lyon", 4, "city: Country", " France"),
        EntityPrompt('"city": "Lyon", "country": "', "Lyon", 13, "city: Country", "France"),
    ]
    assert reader.prompts("test") == [EntityPrompt("In Kyiv:", "Kyiv", 7, "city: Language", " Ukrainian")]
    assert repr(reader) == f"RavelFiles(folder={ravel!r}, attributes={{'city': ['Country', 'Language']}})"


def test_ravel_files_that_are_not_there_or_have_no_such_attribute(ravel):
    with pytest.raises(ValueError, match="no ravel_verb_attribute_to_prompts.json; give the folder"):
        RavelFiles(ravel, {"verb": ["Past Tense"]})
    with pytest.raises(ValueError, match="attributes: city has no 'Mayor'; choose from Country, Language"):
        RavelFiles(ravel, {"city": ["Country", "Mayor"]})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "entity_to_split",
            b'{"Lyon": "train"',
            "entity_to_split.json: cannot be read as JSON .*give a file that is whole",
        ),
        ("entity_to_split", b"[1]", "entity_to_split.json: expected one JSON object, found list"),
        ("entity_to_split", b'{"Lyon": "train"}', "entity_to_split.json: there is no entry 'Kyiv'"),
        ("prompt_to_split", b"{}", "prompt_to_split.json: there is no entry '%s lies in'"),
        (
            "prompt_to_split",
            b'{\n"caf\xe9": "train"}',
            "prompt_to_split.json, line 2: byte 0xe9 at position 6 is not UTF-8",
        ),
        ("entity_attributes", b'{"Lyon": {}}', "entity_attributes.json: there is no entry 'Lyon / Country'"),
        ("entity_attributes", b'{"Lyon": {"Country": 3}}', "Country of Lyon: expected text, found 3"),
        ("attribute_to_prompts", b'{"Country": ["%s lies in", "Where?"]}', "'Where.': expected a prompt with one %s"),
    ],
)
def test_damaged_ravel_files_are_named(ravel, name, content, message):
    path = Path(ravel) / f"ravel_city_{name}.json"
    if name == "attribute_to_prompts":
        splits = {"%s lies in": "train", "Where?": "train"}
        (Path(ravel) / "ravel_city_prompt_to_split.json").write_text(json.dumps(splits))
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        RavelFiles(ravel, {"city": ["Country"]}).prompts("train")


def test_a_byte_order_mark_does_not_matter(ravel):
    for path in Path(ravel).glob("*.json"):
        path.write_text(path.read_text(), encoding="utf-8-sig")
    test_ravel_files(ravel)


def test_the_entity_must_end_where_it_is_said_to():
    with pytest.raises(ValueError, match="the entity 'Lyon' does not end at character 3 of the prompt 'Paris is in'"):
        EntityPrompt("Paris is in", "Lyon", 3, "country", " France")


def prompts_about(*attributes, n=6):
    return [EntityPrompt(f"e{i}", f"e{i}", 2, name, f" {name}{i % 3}") for name in attributes for i in range(n)]


def values_of(prompts):
    return {(prompt.entity, prompt.attribute): prompt.answer for prompt in prompts}


def test_pairs():
    prompts = prompts_about("country", "language", "currency")
    pairs = draw_pairs(prompts, values_of(prompts), "country", 8, seed=0)
    assert pairs == draw_pairs(prompts, values_of(prompts), "country", 8, seed=0)
    assert [pair.is_cause for pair in pairs] == [True] * 8 + [False] * 8
    for pair in pairs:
        base, source = prompts[pair.base], prompts[pair.source]
        assert source.attribute == "country"
        assert int(base.entity[1]) % 3 != int(source.entity[1]) % 3
        assert pair.answer == (source if pair.is_cause else base).answer
    assert {prompts[pair.base].attribute for pair in pairs[:8]} == {"country"}
    assert [prompts[pair.base].attribute for pair in pairs[8:]] == ["language"] * 4 + ["currency"] * 4
    assert len({pair.base for pair in pairs[:6]}) == 6  # each once before one is taken again


def test_no_pairs():
    alike = [EntityPrompt(f"e{i}", f"e{i}", 2, name, " same") for name in ("country", "language") for i in range(4)]
    with pytest.raises(ValueError, match="no pairs for country: among the entities .* no two differ in it and in"):
        draw_pairs(alike, values_of(alike), "country", 2, seed=0)
    only = prompts_about("country")
    with pytest.raises(ValueError, match="no pairs for country: they need known prompts about it, and about another"):
        draw_pairs(only, values_of(only), "country", 2, seed=0)


WORDINGS = {"country": ["{} lies in", "{} is a city of", 'city("{}", "'], "language": ["In {} they speak"]}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_facts_of_ones_own(tmp_path, suffix):
    rows = [{"city": f"City {i}", "country": f"land {i % 3}", "language": "" if i == 0 else "Latin"} for i in range(30)]
    path = tmp_path / f"cities{suffix}"
    if suffix == ".csv":
        lines = ["city,country,language", *(",".join(row.values()) for row in rows)]
    else:
        lines = [json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    facts = FactFile(str(path), WORDINGS, entity="city")
    train, test = facts.prompts("train"), facts.prompts("test")
    assert not {prompt.entity for prompt in train} & {prompt.entity for prompt in test}
    assert len({prompt.entity for prompt in test if prompt.attribute == "country"}) == 10
    assert len([prompt for prompt in train if prompt.attribute == "country"]) == 40, "two wordings of three"
    assert len([prompt for prompt in train + test if prompt.attribute == "language"]) == 29, (
        "an empty cell asks nothing"
    )
    first = next(prompt for prompt in train if prompt.entity == "City 7" and prompt.attribute == "country")
    assert first == EntityPrompt("City 7 lies in", "City 7", 6, "country", " land 1")
    quoted = next(prompt for prompt in test if prompt.attribute == "country")
    assert quoted.text == f'city("{quoted.entity}", "'
    assert quoted.answer.startswith("land"), "no space after a quotation mark"
    assert facts.prompts("test") == FactFile(str(path), WORDINGS, entity="city").prompts("test")
    assert facts.prompts("test") != FactFile(str(path), WORDINGS, entity="city", seed=1).prompts("test")
    assert repr(facts).startswith(f"FactFile(path={str(path)!r}, wordings=")


def test_one_table_with_facts_and_their_wordings(tmp_path):
    path = tmp_path / "people.csv"
    rows = [f"Person {i},land {i % 3},job {i % 2}" for i in range(6)]
    wordings = ["{},{} was born in,{} works as a", "{},The home of {} is,", "{},{} is from,"]
    path.write_text("\n".join(["entity,home,job", wordings[0], *rows, *wordings[1:]]) + "\n", encoding="utf-8")
    facts = FactFile(str(path))
    apart = {"home": ["{} was born in", "The home of {} is", "{} is from"], "job": ["{} works as a"]}
    for split in ("train", "test"):
        assert facts.prompts(split) == FactFile(str(path), apart).prompts(split)
        assert "{}" not in {prompt.entity for prompt in facts.prompts(split)}
    assert {prompt.attribute for prompt in facts.prompts("test")} == {"home", "job"}
    assert any(prompt.text.endswith(" is from") for prompt in facts.prompts("test"))
    path.write_text("\n".join(["entity,home,job", *rows]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"people.csv: there is no row with {} under entity=entity, whose other cells"):
        FactFile(str(path))
    path.write_text("\n".join(["entity,home,job", "{},born in,{} works as a", *rows]), encoding="utf-8")
    with pytest.raises(ValueError, match="wordings: home: expected {} once, for the entity, in 'born in'"):
        FactFile(str(path))


def test_facts_with_a_split_of_their_own_and_mistakes_in_them(tmp_path):
    def table(text):
        (tmp_path / "facts.csv").write_text(text, encoding="utf-8")
        return str(tmp_path / "facts.csv")

    path = table("entity,country,language,side\na,x,y,train\nb,x,y,test\n")
    facts = FactFile(path, WORDINGS, split="side")
    assert {prompt.entity for prompt in facts.prompts("train")} == {"a"}
    for arguments, message in (
        ({"wordings": {"country": ["{} is"]}}, "expected two attributes or more"),
        ({"wordings": {**WORDINGS, "language": []}}, "wordings: language has none"),
        (
            {"wordings": {**WORDINGS, "language": ["they speak"]}},
            "language: expected {} once, for the entity, in 'they",
        ),
        ({"wordings": {**WORDINGS, "mayor": ["{} is led by"]}}, "facts.csv, line 2: there is no column 'mayor'; the c"),
        ({"test_share": 1.0}, "test_share=1.0: expected a number above 0 and below 1"),
        ({"split": "country"}, "line 2: country='x': expected train or test"),
        ({"path": str(tmp_path / "none.csv")}, "none.csv: does not exist"),
    ):
        with pytest.raises(ValueError, match=message):
            FactFile(**{"path": path, "wordings": WORDINGS, **arguments})
    for text, message in (
        ("entity,country,language\na,x,y\na,x,y\n", "line 3: 'a' is there twice"),
        ("entity,country,language\n,x,y\n", "line 2: nothing under entity=entity"),
    ):
        with pytest.raises(ValueError, match=message):
            FactFile(table(text), WORDINGS)
