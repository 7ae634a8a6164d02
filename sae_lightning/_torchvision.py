"""Let torchvision's ordinary wheel be imported beside a CPU-only torch.

The compiled part of that wheel is linked against CUDA and cannot be loaded by a CPU-only torch. torchvision survives
this, except that its Python part then registers shapes and gradients for two operators that nobody declared, and stops
with ``operator torchvision::nms does not exist``. Lightning, torchmetrics and most of transformers import torchvision
when they find it, so they fail as well. Declaring the two operators is enough: SAEs use torchvision's image transforms
at most, never its detection operators.
"""

import importlib.util
from pathlib import Path

import torch

_declared: list[torch.library.Library] = []  # a declaration lives as long as its Library object


def declare_missing_operators() -> None:
    """Declare torchvision's detection operators where its compiled part cannot be loaded; otherwise do nothing.

    Costs about a millisecond, and imports torch but not torchvision.
    """
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
