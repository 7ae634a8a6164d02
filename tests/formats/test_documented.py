"""docs/formats.md says what is true: its tables are made again, and every damage but half precision is refused."""

import pytest
from formats.damages import DAMAGES
from formats.documented import DOCUMENT, TABLES, message_of, with_tables

from sae_lightning.saes import SparseAutoencoder

SAID = {
    "axes swapped": "its axes are swapped",
    "a key is missing": "lacks b_enc",
    "k that the weights cannot have": "k",
    "NaN": "NaN or infinite",
    "cut off": "damaged, cut off or no safetensors file",
    "a header that promises more than the file holds": "damaged, cut off or no safetensors file",
    "a pickle with code in it": "would run code",
    "two formats in one folder": "holds files of 2 formats, dictionary_learning and SAELens",
    "a threshold that was never set": "no threshold",
}


@pytest.mark.parametrize("name", SAID)
def test_damage_is_refused(name, tmp_path, capsys):
    assert SAID[name] in message_of(DAMAGES[name](tmp_path))
    assert "code of the file ran" not in capsys.readouterr().out


def test_half_precision_is_read_and_said(tmp_path):
    sae = SparseAutoencoder.load(DAMAGES["half precision"](tmp_path))
    assert sae.provenance["imported"]["dtype"] == "float16"


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_are_those_of_the_document(name):
    text = DOCUMENT.read_text()
    assert TABLES[name]() in text, "run python tests/formats/documented.py"
    assert with_tables(text) == text
