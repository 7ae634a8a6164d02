"""The card that stands beside an SAE on the hub: what it is, of what, what was measured, and how to load it."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sae_lightning.formats import is_own
from sae_lightning.members import TRAINED, Member, Tag, in_order, policy_title
from sae_lightning.runs.run import SAES_FOLDER, run_of_sae
from sae_lightning.saes import SparseAutoencoder
from sae_lightning.saes.saving import folded_scale
from sae_lightning.verdict import VERDICT_FILE

LIBRARY = "sae_lightning"
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")
_SETTINGS = {
    "k": "k",
    "group_fractions": "Shares of the groups",
    "input_norm": "Norm of each activation",
    "unit_norm_decoder": "Unit-norm decoder",
}
_STATED = {
    "model": "Model",
    "hook": "Hook",
    "layer": "Layer",
    "dataset": "Data",
    "tokens": "Activations in training",
    "context_length": "Tokens in a row",
    "trained_as": "Trained as",
}


def model_card(
    sae: SparseAutoencoder, where: Path, address: str, format_title: str, base_model: str | None = None
) -> str:
    """Return the text of `README.md`.

    Args:
        sae: that is published.
        where: it was read from; in a run folder its verdict is shown.
        address: on the hub, `hf://owner/name/path`.
        format_title: of the files beside the card.
        base_model: name on the hub of the model that the activations are of; by default what the SAE says, if that may
            be such a name.

    Raises:
        ValueError: if the verdict of its run is damaged.
    """
    base_model = base_model or _base_model(sae.provenance)
    header = {
        "library_name": LIBRARY,
        "tags": ["sparse-autoencoder", "sae", "interpretability", type(sae).__name__],
        **({"base_model": base_model} if base_model else {}),
    }
    sections = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---",
        f"# {address.removeprefix('hf://')}",
        f"{_kind(sae)}, in the format of {format_title}.",
        _table([("", "")], _what_it_is(sae, where)),
        *_measured(sae.provenance),
        *_read(sae.provenance),
        _how_to_load(address),
        *_verdict(where),
    ]
    return "\n\n".join(sections) + "\n"


def _kind(sae: SparseAutoencoder) -> str:
    """Say what it is, of which variant and how large."""
    latents = f"({type(sae).__name__}) with {sae.d_sae:,} latents"
    if sae.is_transcoder:
        return f"A transcoder {latents}, from activations of width {sae.d_in:,} to those of width {sae.d_out:,}"
    return f"A sparse autoencoder {latents} for activations of width {sae.d_in:,}"


def _base_model(provenance: Mapping[str, Any]) -> str | None:
    """Return the model of the activations, if its name may be one of the hub and is no folder here."""
    stated = provenance.get("imported", {}).get("stated", {})
    name = (provenance.get("activations") or {}).get("model") or stated.get("model")
    is_name = isinstance(name, str) and _HUB_NAME.fullmatch(name) is not None and not Path(name).exists()
    return name if is_name else None


def _what_it_is(sae: SparseAutoencoder, where: Path) -> list[tuple[str, str]]:
    settings, provenance = sae.settings(), sae.provenance
    rows: dict[str, Any] = {
        "Variant": type(sae).__name__,
        "Sizes": f"d_in {sae.d_in:,}, d_sae {sae.d_sae:,} ({sae.d_sae / sae.d_in:.4g} times as many)",
        **{label: settings[name] for name, label in _SETTINGS.items() if settings.get(name) is not None},
        "b_dec is subtracted before encoding": sae.apply_b_dec_to_input,
        "Scale of training, folded into the biases": folded_scale(where) if is_own(where) else None,
    }
    stated = provenance.get("imported", {}).get("stated", {})
    rows |= {label: stated[name] for name, label in _STATED.items() if name in stated}
    return [(name, _text(value)) for name, value in (rows | _training(provenance)).items() if value not in (None, "")]


def _training(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an SAE of this library says of its activations, data and training."""
    activations, data, trainer = (provenance.get(name) or {} for name in ("activations", "data", "trainer"))
    steps, batch_size = provenance.get("steps"), data.get("batch_size")
    rows: dict[str, Any] = {"Model": activations.get("model")}
    if hook := activations.get("hook"):
        rows["Hook"] = f"{'input' if activations.get('hook_input') else 'output'} of {hook}"
    if data:
        text = data.get("text") or data.get("images")
        rows["Data"] = _in_words(text) if isinstance(text, Mapping) else data.get("class")
        rows["Tokens in a row"] = data.get("context_length")
    if steps and batch_size:
        n = steps * batch_size * (trainer.get("accumulate_grad_batches") or 1) * (trainer.get("devices") or 1)
        rows["Activations in training"] = f"{n:,} in {steps:,} steps"
    return rows


def _in_words(described: Mapping[str, Any]) -> str:
    """Return a class and its plain arguments."""
    plain = {name: value for name, value in described.items() if isinstance(value, str | int) and name != "class"}
    arguments = ", ".join(f"{name} {value}" for name, value in plain.items())
    return f"{described.get('class', '')}: {arguments}" if arguments else str(described.get("class", ""))


def _measured(provenance: Mapping[str, Any]) -> list[str]:
    """Return what was measured last, or what its file states."""
    imported = provenance.get("imported", {})
    values = provenance.get("measured") or imported.get("stated", {})
    rows = [(label, f"{values[name]:.4g}") for name, label in _MEASURED.items() if name in values]
    where = "Stated by the file that it was read from" if imported else "On held-out activations of its run"
    return [f"## Measured\n\n{where}:\n\n{_table([('', '')], rows)}"] * bool(rows)


_MEASURED = {"l0": "Active latents (l0)", "explained_variance": "Explained variance"}


def _read(provenance: Mapping[str, Any]) -> list[str]:
    """Say which other library wrote it, and what was changed on reading so that the function stays the same."""
    imported = provenance.get("imported")
    if not imported:
        return []
    library, assumed = f"{imported['format']} {imported.get('version', '')}".strip(), imported.get("assumed", {})
    items = [f"folded: {fold}" for fold in imported.get("folds", ())] + list(imported.get("notes", ()))
    items += [f"assumed, since the file does not say it: {name}={value}" for name, value in assumed.items()]
    first = f"## Read from another format\n\nRead from a file of {library}."
    return ["\n".join([first, *([""] if items else []), *(f"- {item}" for item in items)])]


def _how_to_load(address: str) -> str:
    code = [
        "```python",
        "from sae_lightning.saes import SparseAutoencoder",
        "",
        f'sae = SparseAutoencoder.load("{address}")',
        "latents = sae.encode(activations)        # [batch, d_in], as the model gives them",
        "reconstruction = sae.decode(latents)",
        "```",
    ]
    return "\n".join(["## How to load it", "", *code])


def _verdict(where: Path) -> list[str]:
    """Return the verdict of the run that the SAE lies in, if it has one."""
    run = run_of_sae(where)
    if run is None or not run.file(VERDICT_FILE).is_file():
        return []
    path = run.file(VERDICT_FILE)
    try:
        member = Member.parse(where.resolve().relative_to((run.folder / SAES_FOLDER).resolve()).as_posix())
        verdict = json.loads(path.read_text(encoding="utf-8"))
        own = {tag: about for tag, about in verdict["metrics"].items() if Tag.parse(tag).part == member.part}
        return [_verdict_text(member, verdict, own, run.noun)] * bool(own)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is damaged ({error!r}): `sae compare` of the run shows what it should hold"
        ) from error


def _verdict_text(member: Member, verdict: Mapping[str, Any], metrics: Mapping[str, Any], noun: str) -> str:
    names = in_order(name for about in metrics.values() for name in about["baselines"])
    rows = [
        (
            about.get("label", tag),
            f"{about[TRAINED]:.4g}",
            *(_compared(about["baselines"].get(name)) for name in names),
        )
        for tag, about in metrics.items()
    ]
    notes = dict.fromkeys(
        note for about in metrics.values() for one in about["baselines"].values() for note in one.get("notes", ())
    )
    role = f"the trained {noun}" if member.policy == TRAINED else f"no trained {noun}, but the baseline {member.policy}"
    return "\n\n".join(
        [
            "## Does training beat random baselines?",
            f"Its run compared the trained {noun} with baselines, metric by metric; this one is {role}. Numbers are "
            f"trained minus baseline, with the {verdict['level']:.0%} interval.",
            _table([("", TRAINED, *map(policy_title, names))], rows),
            *([f"{verdict['rule'][:1].upper()}{verdict['rule'][1:]}."] if "rule" in verdict else []),
            *(["\n".join(f"- {note}" for note in notes)] if notes else []),
        ]
    )


def _compared(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return "-"
    interval = one["interval"] or [None, None]
    bounds = "" if None in interval else " [" + ", ".join(f"{bound:+.3g}" for bound in interval) + "]"
    return f"{one['verdict']} {one['difference']:+.3g}{bounds}"


def _table(head: Sequence[Sequence[str]], rows: Iterable[Sequence[str]]) -> str:
    lines = [*head, ["---"] * len(head[0]), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _text(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}" if isinstance(value, float) else str(value)
