"""Every `sae` command of the README and of the pages parses as it is written; those of docs/results are left out."""

import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from sae_lightning import shipped
from sae_lightning.cli import COMMANDS, main

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *(DOCS / f"{name}.md" for name in ("start", "check", "formats", "scaling"))]
PAGES += [page for folder in ("how_to", "concepts") for page in sorted((DOCS / folder).glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = {
    "mine.yaml": "pocket_lm",
    "my_config.yaml": "sanity_pocket_lm",
    "CONFIG": "sanity_pocket_lm",
    "RUN/best_lr.yaml": "pocket_lm",
    "SAE": "RUN/saes/trained/0",
}
"""What a reader has, and what stands in its place here."""


class Parsed(Exception):  # noqa: N818
    """A command was parsed, and is not run."""


@pytest.fixture
def parse_only(monkeypatch):
    """Stop where the arguments of a command are parsed, with those of its subcommand."""
    inside, parse_args = [], ArgumentParser.parse_args

    def parse_and_stop(self, *args, **kwargs):
        inside.append(self)
        try:
            parsed = parse_args(self, *args, **kwargs)
        finally:
            inside.pop()
        if inside:
            return parsed
        raise Parsed

    monkeypatch.setattr(ArgumentParser, "parse_args", parse_and_stop)


def commands(page):
    """Yield the words after `sae` of each command of a page, in blocks and in tables."""
    text = page.read_text(encoding="utf-8")
    blocks = [block.replace("\\\n", " ") for kind, block in BLOCK.findall(text) if kind in ("", "text")]
    lines = re.findall(r"^(?:\S+ )?sae (\w.*)", "".join(blocks), re.MULTILINE)
    lines += re.findall(r"`sae (\w[^`]*)`", "".join(re.findall(r"^\|.*", BLOCK.sub("", text), re.MULTILINE)))
    for line in lines:
        yield [FILES.get(word, word.removesuffix("...")) for word in shlex.split(line, comments=True)]


def only_names(words):
    """Whether nothing is parsed but configurations, which tests/test_configs.py does."""
    return all(option in ("-c", "--config", "--ckpt_path", "--print_config") for option in words[1::2])


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_commands_parse(page, parse_only, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "RUN").mkdir()
    shutil.copy(shipped.configuration("sanity_pocket_lm"), tmp_path / "RUN/config.yaml")
    for kind, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind == "python" and (name := re.match(r"# (my_\w+)\.py\n", block)):
            (tmp_path / f"{name[1]}.py").write_text(block)
    for words in commands(page):
        assert words[0] in COMMANDS, words
        for name in (value for option, value in pairwise(words) if option == "--config"):
            assert Path(shipped.configuration(name)).is_file(), f"{page.name}: --config {name}"
        if len(words) == 1 or only_names(words):
            continue
        with pytest.raises((Parsed, SystemExit)) as stop:
            main(words)
        assert stop.type is Parsed or stop.value.code == 0, f"{page.name}: sae {shlex.join(words)}"
