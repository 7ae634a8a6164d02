"""Defaults of arguments, for settings that a run of another version does not have."""

import importlib
import inspect
from typing import Any

BEFORE = {"b_dec_init": "sae_lightning.saes.Zero", "max_norm_ratio": None, "skip_first_positions": 0}
"""What runs did that are older than an option whose default is something else."""
_KNOWN = ("sae_lightning.", "torch.", "lightning.")


def default_of(class_path: str, argument: str, unknown: Any) -> Any:
    """Return what a run did that does not have an argument of a class of this library, torch or Lightning.

    Args:
        class_path: of the class.
        argument: of its `__init__`, or of that of a base class.
        unknown: what is returned where there is no such class, argument or default.
    """
    if argument in BEFORE:
        return BEFORE[argument]
    if not class_path.startswith(_KNOWN):  # code of the user's is not run to read a setting
        return unknown
    module, _, name = class_path.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return unknown
    for base in kind.__mro__:
        parameters = inspect.signature(base.__init__).parameters
        if argument in parameters:
            default = parameters[argument].default
            return unknown if default is inspect.Parameter.empty else default
    return unknown
