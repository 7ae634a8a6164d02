"""Where the numbers come from: settings, seeds, data, versions, time."""

from collections.abc import Mapping
from typing import Any

from sae_lightning.members import policy_label
from sae_lightning.runs import Run

_SAE = ("d_sae", "expansion_factor", "k", "sparsity_coefficient", "dead_after_samples")
_DATA = (
    "model", "hook", "path", "d_in", "n_features", "firing_probability", "text", "batch_size", "train_samples",
    "val_samples", "nulls", "seed",
)  # fmt: skip


def provenance(run: Run) -> list[tuple[str, str]]:
    """Return names and values, in the order in which they are read; what a run does not say is left out."""
    last = run.last
    facts: dict[str, Any] = {
        "Run": run.title,
        "SAE": _in_words(run.sae, _SAE),
        "Policies": ", ".join(map(policy_label, run.model["init_args"].get("policies") or ())),
        "Seeds": run.seeds if run.config else None,
        "Data": _in_words(run.data, _DATA),
        "Training": f"{last.step:,} steps, {last.samples:,} activations, {_duration(last.seconds)}",
    }
    if run.starts:
        first, latest = run.starts[0], run.starts[-1]
        facts["Started"] = first.get("time", "") + (f", last again {latest.get('time')}" if len(run.starts) > 1 else "")
        facts["Devices"] = latest.get("devices")
        facts["Versions"] = ", ".join(f"{name} {version}" for name, version in latest.get("versions", {}).items())
        facts["Commit"] = latest.get("commit")
    elif run.config.startswith("#"):
        facts["Versions"] = run.config.splitlines()[0].lstrip("# ").replace("==", " ")
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "", [])]


def _in_words(choice: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Return a class with some of its arguments, `TopK: k 32, expansion_factor 8`."""
    given = choice["init_args"]
    arguments = ", ".join(f"{name} {_short(given[name])}" for name in names if given.get(name) is not None)
    return ": ".join(filter(None, [choice["class_path"].split(".")[-1], arguments]))


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return str(value["class_path"]).split(".")[-1] if "class_path" in value else ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 2:
        return f"{seconds:.0f} seconds"
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
