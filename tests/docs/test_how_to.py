"""The how-to pages: complete files run; commands are in test_commands.py."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import yaml

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / "start.md", *sorted((DOCS / "how_to").glob("*.md")), *sorted((DOCS / "concepts").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page, language):
    return [text for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


WITH_CODE = [page for page in PAGES if blocks(page, "python")]


@pytest.mark.parametrize("page", WITH_CODE, ids=[page.stem for page in WITH_CODE])
def test_the_files_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for text in blocks(page, "python"):
        name = re.match(r"# (\w+)\.py\n", text)[1]
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
        if name == "try_it":
            runpy.run_path(f"{name}.py")
        else:
            __import__(name)
    monkeypatch.undo()


def test_each_page_that_adds_something_has_files():
    assert {page.stem for page in WITH_CODE} >= {f"add_a_{what}" for what in ("variant", "format", "freeze_policy")}


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_prose_is_wrapped_and_yaml_is_yaml(page):
    text = page.read_text(encoding="utf-8")
    prose = BLOCK.sub("", text).splitlines()
    assert not [line for line in prose if len(line) > 100 and not line.startswith(("|", "!["))]
    for block in blocks(page, "yaml"):
        assert yaml.safe_load(block)
