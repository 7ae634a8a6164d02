"""Probing tasks on Python source and on cities: what their labels say, and that their sets share nothing."""

import sysconfig
from pathlib import Path

import pytest

from sae_lightning.pocket import CityAttribute, PythonIndentation, PythonPackage, PythonTokens
from sae_lightning.pocket.python_code import library_windows, windows_of, words

FACTS = Path(__file__).parents[2] / "data/pocket_lm/facts.csv"

SOURCE = '''"""About it."""
import os  # why not

def double(x):
    """Twice that."""
    if x:
        return 2 * x + len("two")
'''


def test_words_are_what_the_tokenizer_says():
    kinds = [(SOURCE[word.start : word.end], word.kind, word.depth) for word in words(SOURCE)]
    assert kinds == [
        ("About", "docstring", 0), ("it", "docstring", 0),
        ("import", "keyword", 0), ("os", "name", 0), ("why", "comment", 0), ("not", "comment", 0),
        ("def", "keyword", 0), ("double", "name", 0), ("(", "operator", 0), ("x", "name", 0), (")", "operator", 0),
        (":", "operator", 0), ("Twice", "docstring", 1), ("that", "docstring", 1), ("if", "keyword", 1),
        ("x", "name", 1), (":", "operator", 1), ("return", "keyword", 2), ("2", "number", 2), ("*", "operator", 2),
        ("x", "name", 2), ("+", "operator", 2), ("len", "name", 2), ("(", "operator", 2), ("two", "string", 2),
        (")", "operator", 2),
    ]  # fmt: skip


def test_windows_hold_whole_lines_and_their_own_words():
    source = SOURCE * 30
    windows = list(windows_of("a.py", source))
    assert "".join(window.text for window in windows) == source
    assert all(window.text.endswith("\n") and len(window.text) <= 400 for window in windows)
    whole = [source[word.start : word.end] for word in words(source)]
    assert [window.text[word.start : word.end] for window in windows for word in window.words] == whole
    assert [window.side() for window in windows[:4]] == ["test", "train", "train", "test"]
    assert next(windows_of("json/tool.py", source)).side() == "ood"


@pytest.fixture
def few_files(monkeypatch):
    """A few files of the standard library stand for the held-out part."""
    root = Path(sysconfig.get_path("stdlib"))
    names = ("random.py", "stat.py", "calendar.py", "json/encoder.py", "json/decoder.py")
    files = tuple((name, root / name) for name in names)
    monkeypatch.setattr("sae_lightning.pocket.python_code.library_files", lambda split: files)
    library_windows.cache_clear()
    yield
    library_windows.cache_clear()


@pytest.mark.parametrize("task", [PythonTokens(), PythonIndentation(), PythonPackage()])
def test_sets_of_the_library_share_no_text(task, few_files):
    examples = task.load(50, 20)
    assert len({example.label for example in examples.train}) >= 3
    sets = [{example.text for example in side} for side in (examples.train, examples.test, examples.ood)]
    assert all(sets)
    assert not sets[0] & sets[1]
    assert not sets[0] & sets[2]
    for example in examples.train[:200]:
        if example.span is not None:
            assert example.text[slice(*example.span)] == example.unit


@pytest.mark.skipif(not FACTS.is_file(), reason="the pocket language model is not here")
def test_cities_of_test_are_held_out_and_wordings_of_ood_as_well():
    examples = CityAttribute("continent", str(FACTS)).load(500, 250)
    sides = (examples.train, examples.test, examples.ood)
    cities = [{example.unit for example in side} for side in sides]
    assert cities[1] == cities[2]
    assert not cities[0] & cities[1]
    wordings = [{example.text.removesuffix(example.unit) for example in side} for side in sides]
    assert wordings[1] <= wordings[0]
    assert not wordings[0] & wordings[2]
    example = examples.train[0]
    assert example.text[slice(*example.span)] == example.unit
    with pytest.raises(ValueError, match="facts=nowhere.csv: there is no such file"):
        CityAttribute("language", "nowhere.csv")
    with pytest.raises(ValueError, match="people.csv, line 1: expected the columns city,country,.* found person,birth"):
        CityAttribute("language", str(FACTS.with_name("people.csv"))).load(5, 5)
