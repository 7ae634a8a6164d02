"""The order of the rooms of the house, as docs/architecture.md draws it: a room imports only rooms below it."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import sae_lightning

PACKAGE = Path(sae_lightning.__file__).parent
ROOMS = [
    # ground
    ["_torchvision", "_torchmetrics", "cores"],
    ["__init__"],
    ["moving_line", "colours"],
    ["members", "metric", "code", "distributed", "tables", "error_messages", "class_paths", "checks"],
    ["provenance", "whole_files", "trainer", "messages", "shipped", "checkpoint_parts", "latent_mesh", "submodules"],
    # core
    ["kernels"],
    ["metrics", "cpu_settings"],
    ["formats"],
    ["saes"],
    ["freeze"],
    ["controls"],
    ["panel"],
    ["family"],
    ["strategies"],
    # data
    ["files"],
    ["sources"],
    ["images"],
    ["datamodules"],
    # asking
    ["probing", "causal", "interpretation"],
    ["pocket"],
    ["evaluators"],
    # keeping, deciding
    ["runs"],
    ["callbacks", "loggers"],
    ["verdict"],
    ["training"],
    # showing, studies
    ["figures"],
    ["density"],
    ["stitching"],
    ["explain"],
    ["inspection"],
    ["report"],
    ["exports"],
    ["checking"],
    # top
    ["commands"],
    ["cli"],
    ["__main__"],
]
LEVELS = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
CORE = ("kernels", "metrics", "formats", "saes", "freeze", "controls", "panel", "family", "strategies")
HEAVY = ("transformers", "open_clip", "datasets")


def modules() -> dict[str, Path]:
    """Paths by dotted name, packages by their own name."""
    paths = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


MODULES = modules()


def imports(path: Path, when_imported: bool = False) -> Iterator[str]:
    """Dotted names of what a file imports; with `when_imported` without imports in functions and for types alone."""
    found: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while found:
        node = found.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (
                below if (below := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names
            )
        is_for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if not (when_imported and (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or is_for_types)):
            found += ast.iter_child_nodes(node)


def room(module: str) -> str:
    """The folder or file directly in the package that a module is, or lies in."""
    return (module.split(".") + ["__init__"])[1]


def test_every_room_has_a_place():
    assert {room(module) for module in MODULES} == set(LEVELS)


def test_no_import_runs_upward():
    upward = defaultdict(set)
    for module, path in MODULES.items():
        for imported in imports(path):
            if imported.split(".")[0] != PACKAGE.name or room(imported) == room(module):
                continue
            if LEVELS[room(imported)] >= LEVELS[room(module)]:
                upward[module].add(imported)
    assert not upward


def test_no_files_import_each_other():
    below = {
        module: {name for name in imports(path, when_imported=True) if name in MODULES and name != module}
        for module, path in MODULES.items()
    }
    for module, names in below.items():  # a room's own files are not imported through its face
        names.discard(module.rpartition(".")[0])
    try:
        list(TopologicalSorter(below).static_order())
    except CycleError as error:
        raise AssertionError(f"files import each other: {' -> '.join(error.args[1])}") from error


def test_the_core_needs_no_models_and_no_data():
    loaded = {
        (module, name)
        for module, path in MODULES.items()
        if room(module) in CORE
        for name in imports(path)
        if name.split(".")[0] in HEAVY
    }
    assert not loaded
