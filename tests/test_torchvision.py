"""torchvision's ordinary wheel beside a torch without CUDA, and operators that are declared where they are missing."""

import sys
from importlib import metadata
from types import ModuleType, SimpleNamespace

import pytest
import torch
from new_process import run

from sae_lightning import _torchvision

needs_entry_point = pytest.mark.skipif(
    not any(point.module == "sae_lightning._torchvision" for point in metadata.entry_points(group="torch.backends")),
    reason="this environment was installed before the package had an entry point: pip install -e .",
)
"""For imports of torchvision, as by all libraries that use it, without the package or before it.

In all other tests the package comes first.
"""


@pytest.mark.slow
@needs_entry_point
def test_torchvision_can_be_imported_after_torch_without_the_package():
    run("import torch, torchvision")


@pytest.mark.slow
@needs_entry_point
def test_training_can_be_imported_after_torchvision_and_imports_no_library_that_it_does_not_use():
    unused = {"sklearn", "pandas", "pyarrow", "datasets", "open_clip", "tensorboard"}
    assert not run(f"import sys, torchvision, sae_lightning.commands.fit; print(*{unused} & {{*sys.modules}})")


def cannot_be_loaded(path):
    raise OSError("libcudart.so: cannot open")


@pytest.fixture
def fresh(monkeypatch):
    """A process that has not imported torchvision, and notes which operators are declared."""
    declared = []
    library = SimpleNamespace(define=lambda schema: declared.append(schema.partition("(")[0]))
    monkeypatch.setattr(_torchvision, "_declared", [])
    monkeypatch.setattr(torch.library, "Library", lambda *_: library)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None, raising=False)
    others = [finder for finder in sys.meta_path if not isinstance(finder, _torchvision._BeforeTorchvision)]
    monkeypatch.setattr(sys, "meta_path", others)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    return declared


def test_both_operators_are_declared_once_where_the_compiled_part_cannot_be_loaded(fresh, monkeypatch):
    monkeypatch.setattr(torch.ops, "load_library", cannot_be_loaded)
    _torchvision.declare_missing_operators()
    _torchvision.declare_missing_operators()
    assert fresh == ["nms", "qnms"]


@pytest.mark.parametrize("version", ["cuda", "hip"])
def test_beside_a_torch_for_gpus_nothing_is_declared(fresh, monkeypatch, version):
    monkeypatch.setattr(torch.ops, "load_library", cannot_be_loaded)
    monkeypatch.setattr(torch.version, version, "12.4")
    _torchvision.declare_missing_operators()
    assert fresh == []


def test_where_the_compiled_part_can_be_loaded_nothing_is_declared(fresh, monkeypatch):
    monkeypatch.setattr(torch.ops, "load_library", lambda path: None)
    _torchvision.declare_missing_operators()
    assert fresh == []


def test_it_happens_when_torchvision_is_imported_and_not_before(fresh, monkeypatch):
    monkeypatch.setattr(torch.ops, "load_library", cannot_be_loaded)
    _torchvision.mend_when_imported()
    _torchvision.mend_when_imported()
    [finder] = [one for one in sys.meta_path if isinstance(one, _torchvision._BeforeTorchvision)]
    assert finder.find_spec("json") is None
    assert fresh == []
    assert finder.find_spec("torchvision") is None, "it is found by others"
    assert fresh == ["nms", "qnms"]
    assert finder not in sys.meta_path


def test_where_it_was_imported_before_it_happens_at_once(fresh, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: SimpleNamespace(origin=_torchvision.__file__))
    _torchvision.mend_when_imported()
    assert fresh == ["nms", "qnms"]
