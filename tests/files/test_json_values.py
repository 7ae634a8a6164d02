import io
import json

import pytest

from sae_lightning.files import json_values as module
from sae_lightning.files.json_values import json_values
from sae_lightning.files.unpacking import DamageError


@pytest.fixture(params=[1, 3, 1000])
def block(request, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", request.param)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", []),
        (" [ ] ", []),
        (
            '[1, 23, -4.5e2, "a\\u00e9\\"b", null, true, [2, [3]], {"a": {}}]',
            [1, 23, -450.0, 'aé"b', None, True, [2, [3]], {"a": {}}],
        ),
        ('{"a": 12}\n{"a":\n 3}', [{"a": 12}, {"a": 3}]),
        ("[12]\n[34, 5]", [12, 34, 5]),
        ("1234", [1234]),
    ],
)
def test_values_wherever_a_block_ends(block, text, values):
    assert list(json_values(io.StringIO(text))) == values


@pytest.mark.parametrize(
    ("text", "n", "message"),
    [
        ('[{"a": 1},\n{"a": 2', 1, "line 2: not JSON"),
        ("[1, 2", 2, "line 1: expected , or ] after an item, the file ends"),
        ("[1\n2]", 1, "line 2: expected , or ] after an item, found '2'"),
        ('["a', 0, "not JSON .Unterminated string"),
        ("words", 0, "not JSON .Expecting value"),
        ("[" + "[" * 100_000, 0, "nested too deeply|not JSON"),
    ],
)
def test_damage_is_named_by_its_line(text, n, message):
    values = json_values(io.StringIO(text))
    for _ in range(n):
        next(values)
    with pytest.raises(DamageError, match=message):
        next(values)


def test_what_is_no_json_is_not_read_to_its_end():
    file = io.StringIO(json.dumps([1]) + "] words " + "x" * 10_000_000)
    with pytest.raises(DamageError):
        list(json_values(file))
    assert file.tell() < 5_000_000
