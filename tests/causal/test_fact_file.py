"""Facts in a table of the user's: wordings, splits, and mistakes in them."""

import json

import pytest

from sae_lightning.causal import EntityPrompt, FactFile

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
