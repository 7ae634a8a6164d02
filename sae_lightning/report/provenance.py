"""Where the numbers come from: settings, seeds, data, versions, time."""

from collections.abc import Mapping
from typing import Any

from sae_lightning.report.run import ReportRun
from sae_lightning.report.words import policy_label

_SAE = ("d_sae", "expansion_factor", "k", "sparsity_coefficient", "dead_after_samples")
_DATA = (
    "model", "hook", "path", "d_in", "n_features", "firing_probability", "text", "batch_size", "train_samples",
    "val_samples", "nulls", "seed",
)  # fmt: skip


def provenance(run: ReportRun) -> list[tuple[str, str]]:
    """Names and values, in the order in which they are read; what a run does not tell is left out."""
    model, data = _of(run.settings.get("model")), _of(run.settings.get("data"))
    sae = _of(model["init_args"].get("sae")) if "sae" in model["init_args"] else model
    last = run.lines[-1]
    found: dict[str, Any] = {
        "Run": run.title,
        "SAE": _told(sae["class_path"], {name: sae["init_args"].get(name) for name in _SAE}),
        "Policies": ", ".join(map(policy_label, model["init_args"].get("policies") or ())),
        "Seeds": model["init_args"].get("seeds", sae["init_args"].get("seed")),
        "Data": _told(data["class_path"], {name: data["init_args"].get(name) for name in _DATA}),
        "Training": f"{last['step']:,} steps, {last['samples']:,} activations, {_duration(last['seconds'])}",
    }
    if run.starts:
        first, latest = run.starts[0], run.starts[-1]
        found["Started"] = first["time"] + (f", last again {latest['time']}" if len(run.starts) > 1 else "")
        found["Devices"] = latest.get("devices")
        found["Versions"] = ", ".join(f"{name} {version}" for name, version in latest["versions"].items())
        found["Commit"] = latest["commit"]
    elif run.config.startswith("#"):
        found["Versions"] = run.config.splitlines()[0].lstrip("# ").replace("==", " ")
    return [(name, str(value)) for name, value in found.items() if value not in (None, "", [])]


def _of(choice: Any) -> dict[str, Any]:
    """A choice of a class, with arguments."""
    choice = choice if isinstance(choice, dict) else {}
    return {"class_path": str(choice.get("class_path") or ""), "init_args": choice.get("init_args") or {}}


def _told(class_path: str, arguments: Mapping[str, Any]) -> str:
    """`TopK: k 32, expansion_factor 8`."""
    told = ", ".join(f"{name} {_short(value)}" for name, value in arguments.items() if value is not None)
    return ": ".join(filter(None, [class_path.split(".")[-1], told]))


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return str(value["class_path"]).split(".")[-1] if "class_path" in value else ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return (
        f"{seconds:.0f} seconds"
        if minutes < 2
        else f"{minutes:.0f} minutes"
        if minutes < 120
        else f"{minutes / 60:.1f} hours"
    )
