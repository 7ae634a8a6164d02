"""The pages that are made from the package when the site is built: classes, commands, metrics, configurations."""

import contextlib
import importlib
import inspect
import io
import os
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sae_lightning
from sae_lightning import shipped
from sae_lightning.cli import COMMANDS, help_text

MODULES = {
    "panel": "Panels: an SAE and its baselines on the same batches",
    "family": "Families: several sizes side by side",
    "metric": "What is said of a metric",
    "members": "Members of a panel, and the names under which they are logged",
}
"""Modules with public classes beside the rooms; a room is public as far as its `__all__`."""
KINDS = ("data", "evaluation", "experiment", "freeze", "sae", "check")


def write(folder: Path) -> None:
    """Write all pages; what is as it was is not touched, so that Sphinx does not read it again."""
    pages = {**api(), "commands": commands(), "metrics": metrics(), "configurations": configurations()}
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.md"):
        if path.stem not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


# Classes
# ---------------------------------------------------------------------------------------------------------------------


def rooms() -> dict[str, list[str]]:
    """Return the public names of each room that has some, by the name of the room."""
    names = {}
    for found in pkgutil.iter_modules(sae_lightning.__path__):
        if found.ispkg and found.name != "commands":
            room = importlib.import_module(f"sae_lightning.{found.name}")
            if public := getattr(room, "__all__", None):
                names[found.name] = sorted(public, key=str.lower)
    return names


def public_classes(module: str) -> list[str]:
    """Return the classes that a module defines, without private ones."""
    found = importlib.import_module(module)
    return [name for name, kind in vars(found).items() if _is_defined_in(kind, module) and not name.startswith("_")]


def api() -> dict[str, str]:
    """Return a page for each room with public names, and for each of `MODULES`."""
    pages = {}
    for room, names in rooms().items():
        module = importlib.import_module(f"sae_lightning.{room}")
        first = (module.__doc__ or "").strip().partition("\n\n")[0]
        pages[f"api_{room}"] = _api_page(room, first, [f"sae_lightning.{room}.{name}" for name in names])
    for module_name, title in MODULES.items():
        names = public_classes(f"sae_lightning.{module_name}")
        pages[f"api_{module_name}"] = _api_page(
            module_name, title, [f"sae_lightning.{module_name}.{name}" for name in names]
        )
    return pages


def _api_page(module: str, lead: str, names: list[str]) -> str:
    lines = [f"# sae_lightning.{module}", "", _markdown(" ".join(lead.split())), "", "```{eval-rst}"]
    for name in names:
        value = _value(name)
        if inspect.isclass(value):
            lines += [f".. autoclass:: {name}", "   :members:", "   :show-inheritance:", ""]
        elif inspect.isfunction(value):
            lines += [f".. autofunction:: {name}", ""]
    return "\n".join([*lines, "```", ""])


def _value(name: str) -> Any:  # noqa: ANN401
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def _is_defined_in(value: Any, module: str) -> bool:  # noqa: ANN401
    return inspect.isclass(value) and value.__module__ == module


def as_restructured_text(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:  # noqa: ANN401
    """Turn the code of a docstring, in backticks or indented, into that of reStructuredText, in place."""
    text = "\n".join(lines)
    text = re.sub(r"(?<![`:\w])`([^`\n]+(?:\n[^`\n]+)?)`(?!`)", r"``\1``", text)
    text = re.sub(r"(?<![`*\\])\*(?![`*])", r"\\*", text)
    text = re.sub(r"(?<=[a-z])_(?=[\s.,;])(?=(?:[^`]*``[^`]*``)*[^`]*$)", r"\\_", text)
    # Napoleon takes "word: ..." in the first line for a type; here that is an empty comment.
    first = ["..", ""] if what in ("attribute", "property") else []
    lines[:] = [*first, *_literal_blocks(text.split("\n"))]


def _literal_blocks(lines: list[str]) -> Iterator[str]:
    """Yield the lines, with `::` before indented blocks that stand alone."""
    section, before = False, ""
    for number, line in enumerate(lines):
        if re.fullmatch(r"(Args|Attributes|Returns|Raises|Yields|Example|Examples|Note):", line):
            section = True
        elif line and not line.startswith(" "):
            section = False
        starts = line.startswith("    ") and number > 0 and not lines[number - 1].strip()
        if starts and not section and not before.startswith("    "):
            yield "::"
            yield ""
        yield line
        before = line if line.strip() else before


# Commands, metrics, configurations
# ---------------------------------------------------------------------------------------------------------------------


def commands() -> str:
    """Return the page of all commands with their help."""
    lines = ["# Commands", "", "What `sae COMMAND --help` prints.", "", _block(help_text()), ""]
    for word, command in COMMANDS.items():
        lines += [f"## sae {word}", "", f"{_sentence(command.help)}", "", _block(help_of(word)), ""]
    return "\n".join(lines)


def help_of(word: str) -> str:
    """Return what `sae WORD --help` prints, for a terminal as wide as a page."""
    from sae_lightning.cli import main

    printed, columns = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "92"
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main([word, "--help"])
    finally:
        os.environ.pop("COLUMNS")
        if columns is not None:
            os.environ["COLUMNS"] = columns
    return printed.getvalue().replace(" \b", "")  # jsonargparse takes a space back, which a terminal shows


def metrics() -> str:
    """Return the page of all metrics, by the question that they answer."""
    by_question: dict[Any, dict[Any, list[type]]] = {}
    for evaluator in _evaluators():
        for metric in evaluator.declares:
            by_question.setdefault(metric.question, {}).setdefault(metric, []).append(evaluator)
    lines = [
        "# Metrics",
        "",
        "What evaluators measure, by the question that they answer. The *floor* is what an SAE scores that does "
        "nothing, or chance. A metric of which neither way is better has no verdict. Names in capitals, and numbers "
        "such as the `1` of `_k1`, stand for those of a run. Of each question the *headline* decides; which one it "
        "is was fixed before there were results.",
        "",
    ]
    for question in sorted(by_question, key=lambda question: question.order):
        lines += [f"## {question.text}", ""]
        lines += [_markdown(question.lead), ""] if question.lead else []
        # First what several measure: explained variance before what only transcoders have.
        for metric, measured_by in sorted(by_question[question].items(), key=lambda item: -len(item[1])):
            lines += [f"### {metric.name}", "", *_described(metric, measured_by), ""]
    return "\n".join(lines)


def _described(metric: Any, measured_by: list[type]) -> Iterator[str]:  # noqa: ANN401
    headline = " The headline of its question." if metric.is_headline else ""
    yield f"**{metric.label}**{f', in {metric.unit}' if metric.unit else ''}.{headline}"
    yield ""
    yield f"- better: {metric.better or 'neither'}"
    yield f"- floor: {_markdown(metric.floor) or 'none'}"
    yield f"- computed: {_markdown(metric.computed) or 'see the evaluator'}"
    classes = (f"{{py:class}}`~sae_lightning.evaluators.{evaluator.__name__}`" for evaluator in measured_by)
    yield f"- measured by: {', '.join(classes)}"


def _evaluators() -> list[Any]:
    from sae_lightning import evaluators

    kinds = [getattr(evaluators, name) for name in sorted(evaluators.__all__)]
    return [kind for kind in kinds if inspect.isclass(kind) and getattr(kind, "declares", ())]


def configurations() -> str:
    """Return the page of all configurations: what each says of itself, and its settings."""
    lines = [
        "# Configurations",
        "",
        "Each comes with the package, and `--config` takes its name; several merge, the later ones win. What a "
        "configuration says of itself stands in front of it.",
        "",
    ]
    found = shipped.configurations()
    for kind in sorted({name.partition("/")[0] for name in found}, key=KINDS.index):
        lines += [f"## {kind}", ""]
        for name, path in found.items():
            if name.startswith(f"{kind}/"):
                lines += [f"### {name}", "", *_configuration(path.read_text(encoding="utf-8")), ""]
    return "\n".join(lines)


def _configuration(text: str) -> Iterator[str]:
    header = re.match(r"(#.*\n)*", text)
    assert header is not None
    said = "\n".join(re.sub("^# ?", "", line) for line in header[0].splitlines())
    first, _, rest = said.partition("\n")
    yield _markdown(first)
    yield ""
    if rest.strip():
        yield _block(rest.strip("\n"))
        yield ""
    yield "<details><summary>Settings</summary>"
    yield ""
    yield f"```yaml\n{text[header.end() :].strip()}\n```"
    yield ""
    yield "</details>"


def _block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"


def _markdown(text: str) -> str:
    """Return plain text of a docstring for Markdown: what is no code there is none here."""
    return re.sub(r"(?<!`)``([^`]+)``(?!`)", r"`\1`", text).replace("<", "\\<").replace("*", "\\*")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith("?") else ".")
