"""The threshold of an SAE that was trained by batch: from its file, or from the user where training never set one."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sae_lightning.formats.stored import StoredSAE

_OF_BATCHES = ("k", "group_fractions")


def with_threshold(
    where: Path | str, stored: StoredSAE, threshold: float | None, assumed: Mapping[str, Any], library: str
) -> StoredSAE:
    """Return an SAE with its threshold, or as the ReLU that its library computes without one, where the user says so.

    Args:
        where: for messages.
        stored: BatchTopK or MatryoshkaBatchTopK without a threshold yet.
        threshold: in the file; None where it has none. What is not above 0 was never set.
        assumed: see `reading.read`.
        library: whose code rectifies alone where the threshold was never set.

    Raises:
        ValueError: if there is no threshold and nothing is assumed.
    """
    if threshold is not None and 0 < threshold < float("inf"):
        return replace(stored, tensors={**stored.tensors, "threshold": torch.tensor(threshold)})
    if "threshold" in assumed:
        tensors = {**stored.tensors, "threshold": torch.tensor(float(assumed["threshold"]))}
        return replace(stored, tensors=tensors, assumed={**stored.assumed, "threshold": assumed["threshold"]})
    if assumed.get("variant") != "ReLU":
        was = "" if threshold is None else f" ({threshold:g})"
        raise ValueError(
            f"{where} has no threshold, its training never set one{was}: assume it, as threshold=0.5, or "
            f"variant=ReLU, which is what {library} computes without one"
        )
    return replace(
        stored,
        variant="ReLU",
        settings={name: value for name, value in stored.settings.items() if name not in _OF_BATCHES},
        stated={**stored.stated, "trained_as": stored.variant},
        assumed={**stored.assumed, "variant": "ReLU"},
    )
