"""Read the head of a checkpoint before a run is built around it, so that a wrong file is one message at the start."""

import pickle
from pathlib import Path
from typing import Any

import torch

from sae_lightning.checkpoint_parts import join

_KEYS = ("state_dict", "loops", "global_step", "pytorch-lightning_version")
_EXPECTED = "expected a checkpoint of `sae fit`, such as lightning_logs/<name>/version_N/checkpoints/last.ckpt"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without its tensors, which stay on the disk until they are used.

    Args:
        path: of the file.

    Raises:
        ValueError: if it is cut off or damaged, or no checkpoint of SAEs.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"ckpt_path={path}: this file of {path.stat().st_size:,} bytes is no checkpoint, or is cut off or damaged "
            f"({type(error).__name__}); {_EXPECTED}. An earlier one of the run may lie beside it"
        ) from error
    if isinstance(checkpoint, dict):
        checkpoint = join(checkpoint, path)
    if not isinstance(checkpoint, dict) or (missing := [key for key in _KEYS if key not in checkpoint]):
        inside = type(checkpoint).__name__
        if isinstance(checkpoint, dict):
            inside = f"{', '.join(map(str, list(checkpoint)[:4]))}, and lacks {', '.join(missing)}"
        raise ValueError(f"ckpt_path={path}: it holds {inside}; {_EXPECTED}")
    if not any(str(name).endswith("W_dec") for name in checkpoint["state_dict"]):
        names = ", ".join(list(checkpoint["state_dict"])[:3])
        raise ValueError(f"ckpt_path={path}: a checkpoint of another model, with {names}; {_EXPECTED}")
    return checkpoint
