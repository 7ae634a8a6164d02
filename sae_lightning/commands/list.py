"""List what there is to choose from, a line each.

- configs: configurations that come with the package; their names are what --config takes.
- variants, policies, data, evaluators, tasks, judges, controls: classes that a configuration names; the help of one is
  `sae fit --model.help TopK`, or --freeze.help, --data.help, --trainer.callbacks.help.
- metrics: what evaluators measure, under the evaluator, and which way is better; without a word on that it has no
  verdict.
- formats: of other libraries that SAEs are read from.
"""

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from sae_lightning import shipped
from sae_lightning.commands.parser import make_parser, parse

Line = tuple[str, str]
_WIDTH = 80


def main(args: list[str]) -> None:
    """Print one of the lists.

    Raises:
        ValueError: if none is named.
    """
    parser = make_parser("list", __doc__)
    parser.add_argument("WHAT", nargs="?", choices=list(LISTS), help="Which list.")
    what = parse(parser, args[1:]).WHAT
    if what is None:
        raise ValueError(f"sae list: say what to list, {', '.join(LISTS)}")
    lines = list(LISTS[what]())
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        print(textwrap.fill(f"{name:<{width}}  {text}", _WIDTH, subsequent_indent=" " * (width + 2)).rstrip())


def configs() -> Iterator[Line]:
    """List the configurations by their first line, which says what they are for."""
    for name, path in shipped.configurations().items():
        yield name, path.read_text(encoding="utf-8").partition("\n")[0].strip("#: ")


def metrics() -> Iterator[Line]:
    """List the metrics by evaluator."""
    from sae_lightning.evaluators import Evaluator

    for evaluator in _classes(Evaluator):
        if evaluator.declares:
            yield evaluator.__name__, ""
        for metric in evaluator.declares:
            yield f"  {metric.name}", metric.label + (f"; {metric.better} is better" if metric.better else "")


def formats() -> Iterator[Line]:
    """List the formats, and which of them are written, too."""
    from sae_lightning.formats import plain
    from sae_lightning.formats.reading import ADAPTERS

    yield "sae_lightning", "read and written"
    for adapter in (*ADAPTERS, plain):
        written = "read and written" if hasattr(adapter, "write") else "read"
        yield adapter.NAME, f"{adapter.TITLE}: {written}"


def _of_base(base: str) -> Callable[[], Iterator[Line]]:
    """Return a function that lists the subclasses of a base, `room:name`, which is imported when they are asked for."""
    room, name = base.split(":")

    def lines() -> Iterator[Line]:
        kinds = _classes(getattr(import_module(f"sae_lightning.{room}"), name))
        return ((kind.__name__, _first_line(kind)) for kind in kinds)

    return lines


def _classes(base: type) -> list[Any]:
    """Return the subclasses that their room exports: the others are parts of these, or bases."""
    import sae_lightning.commands.fit  # noqa: F401  (brings the classes that a configuration can name)
    from sae_lightning.error_messages import subclasses_of

    public = {kind.__name__: kind for kind in subclasses_of(base) if not inspect.isabstract(kind) and _is_public(kind)}
    return [public[name] for name in sorted(public)]


def _is_public(kind: type) -> bool:
    package, *rooms = kind.__module__.split(".")
    return package == "sae_lightning" and getattr(sys.modules[f"{package}.{rooms[0]}"], kind.__name__, None) is kind


def _first_line(kind: type) -> str:
    paragraph = (inspect.getdoc(kind) or "").partition("\n\n")[0]
    return " ".join(paragraph.split()).removesuffix(".")


LISTS: dict[str, Callable[[], Iterator[Line]]] = {
    "configs": configs,
    "variants": _of_base("saes:SAEModule"),
    "policies": _of_base("freeze:FreezePolicy"),
    "data": _of_base("datamodules:ActivationDataModule"),
    "evaluators": _of_base("evaluators:Evaluator"),
    "metrics": metrics,
    "tasks": _of_base("probing:ProbingTask"),
    "judges": _of_base("interpretation:Judge"),
    "controls": _of_base("controls:Control"),
    "formats": formats,
}
