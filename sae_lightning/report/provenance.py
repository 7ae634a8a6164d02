"""Where the numbers come from: settings, seeds, data, versions, time."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sae_lightning.members import in_order, policy_title
from sae_lightning.runs import Run
from sae_lightning.runs.run import choice

_SAE = ("k", "sparsity_coefficient", "target_l0", "dead_after_samples")
_DATA = (
    "model", "hook", "path", "d_in", "n_features", "firing_probability", "text", "batch_size", "train_samples",
    "val_samples", "nulls", "seed",
)  # fmt: skip


def provenance(run: Run) -> list[tuple[str, str]]:
    """Return names and values, in the order in which they are read; what a run does not say is left out."""
    facts: dict[str, Any] = {
        "Run": run.title,
        run.noun[:1].upper() + run.noun[1:]: _sae(run),
        "Hooks": "; ".join(_ends(run)),
        "Policies": ", ".join(map(policy_title, in_order(run.model["init_args"].get("policies") or ()))),
        "Seeds": ", ".join(map(str, run.seeds)) if run.config else None,
        "Activations": _activations(run),
        "Data": _in_words(run.data, _DATA),
        "Training": _training(run),
    }
    if run.starts:
        first, latest = run.starts[0], run.starts[-1]
        again = f", last again {_moment(latest.get('time', ''))}" if len(run.starts) > 1 else ""
        facts["Started"] = _moment(first.get("time", "")) + again
        facts["Devices"] = re.sub(r"^1 x cpu$", "the CPU", str(latest.get("devices") or ""))
        facts["Versions"] = ", ".join(f"{name} {version}" for name, version in latest.get("versions", {}).items())
        facts["Commit"] = re.sub(r"\+$", ", with changes that were not committed", latest.get("commit") or "")
    elif run.config.startswith("#"):
        facts["Versions"] = run.config.splitlines()[0].lstrip("# ").replace("==", " ")
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "", [])]


def _sae(run: Run) -> str:
    """Return the class of the SAEs with their sizes as they came out, not as they were asked for."""
    sizes = sorted({_size(path) for path in run.saes.values()})
    text = _in_words(run.sae, _SAE if sizes else (*_SAE, "d_sae", "expansion_factor"))
    shown = [f"d_sae {d_sae:,} ({_short(d_sae / d_in)} × d_in {d_in:,})" for d_in, d_sae in sizes]
    return ", ".join([text, *shown])


def _ends(run: Run) -> list[str]:
    """Return what transcoders read and where they answer, names and, where they are known, hooks.

    Data from a cache do not name the hooks, and the exported transcoders do.
    """
    hooks = run.data["init_args"].get("hook")
    hooks = dict(hooks) if isinstance(hooks, Mapping) else {}
    for member, folder in run.saes.items() if run.targets else ():
        said = _manifest(folder).get("provenance", {})
        sides = {member.part: said.get("activations"), run.targets.get(member.part): said.get("target")}
        hooks |= {name: side["hook"] for name, side in sides.items() if side and "hook" in side}
    named = {name: f"{name} ({hook})" for name, hook in hooks.items()}
    return [
        f"read {named.get(source, source)}, answer at {named.get(target, target)}"
        for source, target in run.targets.items()
        if source not in run.nulls
    ]


def _size(folder: Path) -> tuple[int, int]:
    settings = _manifest(folder)["settings"]
    return settings["d_in"], settings["d_sae"]


def _manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "sae.json").read_text(encoding="utf-8"))
    return manifest


def _training(run: Run) -> str:
    """Return how the SAEs were trained: optimizer, schedule and length."""
    arguments, last = run.sae["init_args"], run.last
    optimizer, schedule = choice(arguments.get("optimizer")), choice(arguments.get("lr_scheduler"))
    clip = (run.settings.get("trainer") or {}).get("gradient_clip_val")
    parts = [
        _in_words(optimizer, ("lr", "weight_decay")) if optimizer["class_path"] else "",
        _rates(run.model["init_args"].get("learning_rates") or {}),
        _in_words(schedule, ("warmup", "decay")) if schedule["class_path"] else "",
        f"gradient_clip_val {_short(clip)}" if clip else "",
        f"{last.step:,} steps, {last.samples:,} activations, {_duration(last.seconds)}",
    ]
    return "; ".join(filter(None, parts))


def _rates(rates: Mapping[str, Any]) -> str:
    """Return the learning rates that policies have of their own, those with the same one together."""
    names: dict[str, list[str]] = {}
    for policy in in_order(rates):
        names.setdefault(_short(float(rates[policy])), []).append(policy_title(policy))
    return ", ".join(f"lr {rate} of {' and '.join(own)}" for rate, own in names.items())


def _activations(run: Run) -> str:
    """Return the model and the hook where the configuration does not name them, as that of a cache does not."""
    if run.data["init_args"].get("model") is not None:
        return ""
    folder = next(iter(run.saes.values()), None)
    about = json.loads((folder / "sae.json").read_text(encoding="utf-8")).get("provenance") or {} if folder else {}
    activations = about.get("activations") or {}
    return ", ".join(f"{name} {activations[name]}" for name in ("model", "hook") if activations.get(name))


def _moment(time: str) -> str:
    """Return a time to the minute, as people write it.

    >>> _moment("2026-11-29T00:38:26+00:00")
    '2026-11-29 00:38 UTC'
    """
    return re.sub(r"T(\d\d:\d\d):\d\d(\.\d+)?\+00:00$", r" \1 UTC", time)


def _in_words(selected: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Return a class with some of its arguments as they are typed, `TopK: k 32, aux_coefficient 0.03125`."""
    given = selected["init_args"]
    arguments = ", ".join(f"{name} {_short(given[name])}" for name in names if given.get(name) is not None)
    return ": ".join(filter(None, [selected["class_path"].split(".")[-1], arguments]))


def _short(value: Any) -> str:
    """Return a value as it would be typed, a class by its name.

    >>> _short(8.0), _short(1536000), _short({"early": "model.layers.1", "late": "model.layers.3"})
    ('8', '1,536,000', 'early = model.layers.1, late = model.layers.3')
    """
    if isinstance(value, Mapping):
        is_class = "class_path" in value
        named = ", ".join(f"{name} = {_short(own)}" if own is not None else str(name) for name, own in value.items())
        return str(value["class_path"]).split(".")[-1] if is_class else named
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 2:
        return f"{seconds:.0f} seconds"
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
