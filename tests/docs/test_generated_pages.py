"""The pages that are made when the site is built have what they are to have."""

import importlib.util
import inspect
import sys
from pathlib import Path

import pytest

from sae_lightning import evaluators, shipped
from sae_lightning.commands.list import LISTS

DOCS = Path(__file__).parents[2] / "docs"


def module(name):
    """A module of the folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


pages = module("generated_pages")
built_site = module("built_site")


@pytest.fixture(scope="module")
def api():
    return pages.api()


@pytest.mark.parametrize("what", ["variants", "policies", "data", "evaluators", "tasks", "judges", "controls"])
def test_each_class_that_a_configuration_can_name_is_on_a_page(what, api):
    names = [name for name, _ in LISTS[what]()]
    text = "".join(api.values())
    assert names
    assert not [name for name in names if f".{name}\n" not in text]


def test_each_public_class_is_on_the_page_of_its_room(api):
    for room, names in pages.rooms().items():
        for name in names:
            if inspect.isclass(getattr(sys.modules[f"sae_lightning.{room}"], name)):
                assert f".. autoclass:: sae_lightning.{room}.{name}\n" in api[f"api_{room}"]
    assert ".. autoclass:: sae_lightning.panel.SanityPanel\n" in api["api_panel"]


def test_each_metric_has_its_label_question_and_floor():
    text = pages.metrics()
    declared = [metric for kind in pages._evaluators() for metric in kind.declares]
    assert evaluators.Sparsity in pages._evaluators()
    for metric in declared:
        own = text.partition(f"### {metric.name}\n")[2].partition("\n##")[0]
        assert f"**{metric.label}**" in own
        assert f"- better: {metric.better or 'neither'}" in own
        assert f"## {metric.question.text}\n" in text


def test_each_configuration_has_its_header():
    text = pages.configurations()
    for name, path in shipped.configurations().items():
        own = text.partition(f"### {name}\n")[2].partition("\n### ")[0]
        settings = own.partition("```yaml\n")[2].partition("```")[0]
        assert settings.strip()
        assert settings.strip() in path.read_text()
    assert "Hardware:" in text


def test_help_is_that_of_the_command():
    assert pages.help_of("list").startswith("usage: sae list")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (["Return `x` and `y`."], ["Return ``x`` and ``y``."]),
        (["Already ``code``."], ["Already ``code``."]),
        (
            ["The equation", "", "    a = b", "", "and more"],
            ["The equation", "", "::", "", "    a = b", "", "and more"],
        ),
        (["Args:", "    a: 1 * b"], ["Args:", r"    a: 1 \* b"]),
        (["the firing_ means of `raise_`"], [r"the firing\_ means of ``raise_``"]),
    ],
)
def test_code_in_docstrings_is_that_of_restructured_text(written, expected):
    pages.as_restructured_text(None, "class", "X", None, None, written)
    assert written == expected


def test_a_colon_in_what_is_said_of_an_attribute_ends_no_type():
    lines = ["Tensors that scale: saving divides them."]
    pages.as_restructured_text(None, "attribute", "X.y", None, None, lines)
    assert lines == ["..", "", "Tensors that scale: saving divides them."]


@pytest.fixture
def site(tmp_path):
    """What Sphinx hands over when it has built pages, here none yet."""
    (tmp_path / "html").mkdir()
    return type("App", (), {"builder": type("Builder", (), {"format": "html"}), "outdir": tmp_path / "html"})


@pytest.mark.parametrize(
    "tag", ['<script src="https://cdn.example/x.js">', '<link rel="stylesheet" href="//cdn.example/x.css">']
)
def test_a_page_that_loads_from_a_network_is_refused(tag, site):
    (site.outdir / "a.html").write_text('<a href="https://arxiv.org">paper</a><script src="own.js">')
    built_site.check(site, None)
    assert (site.outdir.parent / built_site.LISTED).read_text() == "https://arxiv.org\n"
    (site.outdir / "b.html").write_text(tag)
    with pytest.raises(ValueError, match=r"b\.html loads .*cdn\.example"):
        built_site.check(site, None)


def test_a_notebook_without_outputs_is_refused(site):
    code, output = '<div class="cell_input docutils">', '<div class="cell_output docutils">'
    (site.outdir / "a.html").write_text(code + code + output)
    built_site.check(site, None)
    (site.outdir / "a.html").write_text(code + code + code + output)
    with pytest.raises(ValueError, match=r"a\.html: 1 of 3 cells have an output"):
        built_site.check(site, None)


def test_the_fingerprint_of_a_package_changes_with_its_code(tmp_path):
    (tmp_path / "a.py").write_text("1")
    before = built_site.fingerprint(tmp_path)
    assert built_site.fingerprint(tmp_path) == before
    (tmp_path / "a.py").write_text("2")
    assert built_site.fingerprint(tmp_path) != before
