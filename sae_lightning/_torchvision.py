"""Let torchvision's ordinary wheel be imported beside a CPU-only torch.

The compiled part of that wheel is linked against CUDA and cannot be loaded by a CPU-only torch. torchvision survives
this, except that its Python part then registers shapes and gradients for two operators that nobody declared, and stops
with ``operator torchvision::nms does not exist``. Lightning, torchmetrics and most of transformers import torchvision
when they find it, so they fail as well. Declaring the two operators is enough: SAEs use torchvision's image transforms
at most, never its detection operators.

The operators are declared when torchvision is imported, and not before: whoever does not use it pays nothing. In an
environment where this package is installed that holds in any order of imports, since `import torch` calls the entry
points of the group ``torch.backends`` (pyproject.toml), and torchvision begins with `import torch`.
"""

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_declared: list[Any] = []  # a declaration lives as long as its Library object


class _BeforeTorchvision(MetaPathFinder):
    """Finds nothing: it only notices that torchvision is about to be imported."""

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            declare_missing_operators()
        return None


def mend_when_imported() -> None:
    """Declare the missing operators when torchvision is imported, or now if that has begun; imports nothing."""
    if "torchvision" in sys.modules:
        declare_missing_operators()
    elif not any(isinstance(finder, _BeforeTorchvision) for finder in sys.meta_path):
        sys.meta_path.insert(0, _BeforeTorchvision())


def declare_missing_operators() -> None:
    """Declare torchvision's detection operators where its compiled part cannot be loaded; otherwise do nothing.

    Costs about a millisecond, and imports torch but not torchvision.
    """
    import torch

    if _declared or torch.version.cuda or getattr(torch.version, "hip", None):
        return
    torchvision = importlib.util.find_spec("torchvision")
    if torchvision is None or torchvision.origin is None:
        return
    for library in Path(torchvision.origin).parent.glob("_C.*"):
        try:
            torch.ops.load_library(library)
        except OSError:
            continue
        return
    operators = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(operators)
