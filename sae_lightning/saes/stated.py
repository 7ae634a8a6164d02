"""What an SAE says of its training, by the names that files of other libraries are read with (`STATED`)."""

from collections.abc import Mapping
from typing import Any

_NAMES_OF_A_DATASET = ("dataset", "paths", "class")
"""Arguments of a text that say which it is, the most telling first."""


def stated_of(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of the training of an SAE: of one of another library what its file stated.

    Args:
        provenance: of `sae.json`.
    """
    if "imported" in provenance:
        return dict(provenance["imported"].get("stated", {}))
    activations, data, sae, measured = (
        provenance.get(name) or {} for name in ("activations", "data", "sae", "measured")
    )
    hook, text = activations.get("hook"), data.get("text") or {}
    in_a_step = _activations_in_a_step(data, provenance.get("trainer") or {})
    steps = provenance.get("steps")
    stated = {
        "model": activations.get("model"),
        "hook": hook,
        "target": (provenance.get("target") or {}).get("hook"),
        "layer": _layer(hook) if isinstance(hook, str) else None,
        "context_length": data.get("context_length"),
        "prepend_bos": data.get("bos_in_every_row"),
        "dataset": next((str(text[name]) for name in _NAMES_OF_A_DATASET if text.get(name)), None),
        "tokens": in_a_step * steps if in_a_step and steps else None,
        "batch_size": in_a_step,
        "learning_rate": _learning_rate(provenance.get("optimizer") or {}),
        "seed": sae.get("seed"),
        "k": sae.get("k"),
        "l0": measured.get("l0"),
        "explained_variance": measured.get("explained_variance"),
        "l1_coefficient": sae.get("l1_coefficient"),
    }
    return {name: value for name, value in stated.items() if value is not None}


def _layer(hook: str) -> int | None:
    """Return the number of the block, where the name of a submodule has exactly one number."""
    numbers = [int(part) for part in hook.split(".") if part.isdecimal()]
    return numbers[0] if len(numbers) == 1 else None


def _activations_in_a_step(data: Mapping[str, Any], trainer: Mapping[str, Any]) -> int | None:
    if (batch_size := data.get("batch_size")) is None:
        return None
    return int(batch_size) * int(trainer.get("accumulate_grad_batches") or 1) * int(trainer.get("devices") or 1)


def _learning_rate(optimizer: Mapping[str, Any]) -> float | None:
    rates = {group["lr"] for group in optimizer.get("groups", ()) if "lr" in group}
    return rates.pop() if len(rates) == 1 else None
