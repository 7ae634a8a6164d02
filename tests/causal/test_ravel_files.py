"""Files of RAVEL: prompts of each part, and files that are damaged."""

import json
from pathlib import Path

import pytest

from sae_lightning.causal import EntityPrompt, RavelFiles


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
