"""Train sparse autoencoders (SAEs) and find out whether they beat random baselines.

Everything that most scripts need can be imported from here; it is loaded when it is first used, so that `import
sae_lightning` and the command line stay quick.
"""

import sys
from importlib import import_module
from typing import Any, no_type_check

from sae_lightning import _torchmetrics, _torchvision

__version__ = "0.1.0"

_torchvision.mend_when_imported()  # Lightning, torchmetrics and transformers import torchvision
_torchmetrics.load_later()  # Lightning imports two classes of it

_PUBLIC = {
    "code": ("Code",),
    "datamodules": (
        "ActivationFiles", "ActivationTensors", "CachedActivations", "ClipImages", "ClipText", "FileText", "HubText",
        "LanguageModelDataModule", "SyntheticDataModule",
    ),
    "evaluators": (
        "Absorption", "AttributeEditing", "AttributeProbing", "AutoInterp", "CausalEditing", "ConceptPurity",
        "Convergence", "Drift", "LossRecovered", "Reconstruction", "Recovery", "SeedAgreement", "SparseProbing",
        "Sparsity", "ZeroShotRecovered",
    ),
    "family": ("SAEFamily",),
    "freeze": ("FrozenDecoder", "FrozenEncoder", "NoFreeze", "SoftFrozenDecoder", "SoftFrozenEncoder", "Untrained"),
    "panel": ("SanityPanel",),
    "runs": ("Run",),
    "saes": (
        "BatchTopK", "CovarianceMatched", "Gated", "JumpReLU", "MatryoshkaBatchTopK", "ReLU", "SparseAutoencoder",
        "TopK", "WarmupDecay",
    ),
    "sources": ("GaussianMatched", "RandomDirections", "RandomRotation", "ShuffledDimensions"),
    "training": ("train",),
}  # fmt: skip
_ROOMS = {name: room for room, names in _PUBLIC.items() for name in names}

__all__ = [*_ROOMS, "__version__"]  # noqa: PLE0604


@no_type_check  # else the tests' type checks would be the caller
def __getattr__(name: str) -> Any:
    # jsonargparse looks for the shortest path of each class, and has no other way to be told that configurations keep
    # the paths of the rooms.
    if name not in _ROOMS or sys._getframe(1).f_code.co_name == "get_import_path":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
