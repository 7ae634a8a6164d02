"""A finished check as `check.json` keeps it."""

import os
import platform
import statistics
from datetime import datetime, timezone
from typing import Any

import torch

from sae_lightning.callbacks.run_config import describe_start
from sae_lightning.checking.configuration import new_control
from sae_lightning.checking.limits import limits_of
from sae_lightning.checking.plan import CheckedSAE, Plan
from sae_lightning.checking.words import questions_of
from sae_lightning.members import RANDOM_BASELINES, REMAKE, TRAINED, Member, Tag, policy_label
from sae_lightning.runs import Measurements, Run
from sae_lightning.runs.measurements import in_order
from sae_lightning.saes.fingerprint import fingerprint
from sae_lightning.saes.saving import tensors_to_save
from sae_lightning.verdict import Comparison, decide
from sae_lightning.verdict.files import verdict_as_json

_NULL_METRICS = ("l0", "explained_variance")
_OF_WHAT_IS_ANSWERED, _OF_TARGET = ("explained_variance",), " of the target"
"""Metrics whose labels say of a transcoder whose variance it is."""


def check_as_json(plan: Plan, run: Run, seconds: float) -> dict[str, Any]:
    """Return a finished check, plain values.

    Args:
        plan: of the check.
        run: that measured it.
        seconds: that it took.
    """
    start = describe_start("check")
    grouped = run.measurements.by_size()
    comparisons = decide([grouped])
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "command": plan.command,
        "commit": start["commit"],
        "versions": start["versions"],
        "hardware": hardware(),
        "budget": plan.budget.as_json(),
        "data": _data(plan),
        "evaluators": [
            {"class": one["class_path"].rpartition(".")[2], **one.get("init_args", {})} for one in plan.evaluators
        ],
        "draws": plan.panel["draws"],
        "control_samples": plan.panel["control_samples"],
        "saes": [_sae(plan, one, run.measurements, grouped, comparisons) for one in plan.saes],
    }


def hardware() -> dict[str, Any]:
    """Return processor, cores that this process may use, and accelerator."""
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"processor": _processor(), "cores": len(os.sched_getaffinity(0)), "accelerator": accelerator}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _data(plan: Plan) -> dict[str, Any]:
    arguments, own = plan.data["init_args"], plan.activations
    said = plan.described
    return {
        "class": plan.data["class_path"].rpartition(".")[2],
        "model": own.get("model"),
        "weights": own.get("weights"),
        "hook": own.get("hook"),
        "hook_input": own.get("hook_input"),
        **({"target": own["target"]} if "target" in own else {}),
        "dtype": arguments.get("dtype"),
        "text": dict(plan.text),
        "context_length": said.get("context_length"),
        "bos_in_every_row": said.get("bos_in_every_row"),
        "skip_first_positions": said.get("skip_first_positions", 0),
        "max_norm_ratio": plan.max_norm_ratio,
        "n_tokens": arguments.get("val_samples"),
    }


def _sae(
    plan: Plan, one: CheckedSAE, measured: Measurements, grouped: Measurements, comparisons: list[Comparison]
) -> dict[str, Any]:
    policy = TRAINED if measured.controls else one.name
    part = f"{plan.part} {one.name}".strip() if measured.controls else plan.part
    own = [comparison for comparison in comparisons if comparison.tag.part == part] if measured.controls else []
    metrics = _metrics(grouped, part, policy, own, plan)
    controls = _controls(grouped, part, measured, plan)
    inspection = one.inspection
    return {
        "name": one.name,
        "where": one.where,
        "fingerprint": fingerprint(tensors_to_save(one.sae)),
        "format": inspection.imported.get("format", "sae_lightning"),
        "kind": "transcoder" if one.sae.is_transcoder else "SAE",
        "variant": type(one.sae).__name__,
        "skip": one.sae.skip,
        "d_in": one.sae.d_in,
        "d_out": one.sae.d_out,
        "d_sae": one.sae.d_sae,
        "stated": dict(inspection.stated),
        "assumed": dict(one.assumed),
        "inspection": inspection.plain(),
        "read_right": " ".join(inspection.verdict()),
        "l0": grouped.values.get(Tag("l0", part), {}).get(Member(policy, 0, part)),
        "metrics": metrics,
        "controls": controls,
        "null_data": _null_data(measured, one.name, plan.part),
        "questions": questions_of(metrics),
        "limits": limits_of(plan, one, controls),
        "remake": _remake(plan, grouped, comparisons),
    }


def _metrics(
    grouped: Measurements, part: str, policy: str, comparisons: list[Comparison], plan: Plan
) -> dict[str, dict[str, Any]]:
    metrics: dict[str, dict[str, Any]] = {}
    for tag in in_order([grouped], grouped.values):
        members = grouped.values[tag]
        if tag.part != part or Member(policy, 0, part) not in members:
            continue
        metric = grouped.metric(tag)
        against = {one.baseline: one for one in comparisons if one.tag == tag}
        margins = [one.margin for one in against.values()]
        metrics[tag.metric] = {
            "label": metric.label + _OF_TARGET * (bool(plan.part) and metric.name in _OF_WHAT_IS_ANSWERED),
            "question": metric.question.text,
            "question_name": metric.question.name,
            "better": metric.better,
            "value": members[Member(policy, 0, part)],
            "floor": grouped.floor(tag, policy),
            "margin": margins[0] if margins else None,
            "is_headline": metric.is_headline,
            "controls": {name: _against(grouped, tag, one, plan) for name, one in against.items()},
        }
    return metrics


def _against(grouped: Measurements, tag: Tag, comparison: Comparison, plan: Plan) -> dict[str, Any]:
    draws = grouped.by_policy(tag)[comparison.baseline]
    difference = comparison.difference
    return {
        "label": policy_label(comparison.baseline),
        "controls_for": grouped.controls.get(comparison.baseline, ""),
        "value": comparison.value,
        "draws": [draws[seed] for seed in sorted(draws)],
        "difference": difference.mean,
        "interval": [difference.low, difference.high] if comparison.has_interval else None,
        "verdict": comparison.verdict,
        "share_above_floor": comparison.share,
        "n_items": comparison.n_items,
        "notes": comparison.notes,
        **({"is_bound": True} if _is_bound(plan, comparison.baseline) else {}),
    }


def _is_bound(plan: Plan, name: str) -> bool:
    """Return whether a control is shown what a transcoder is to answer with."""
    settings = plan.panel["controls"].get(name)
    return settings is not None and new_control(settings).reads_target(plan.saes[0].sae)


def _controls(grouped: Measurements, part: str, measured: Measurements, plan: Plan) -> dict[str, dict[str, Any]]:
    """Return the l0 of each control, and by which share it is off that of the SAE; None of one without latents."""
    if not measured.controls:
        return {}
    by_policy = grouped.by_policy(Tag("l0", part))
    own = by_policy.pop(TRAINED, {}).get(0)
    controls = {}
    for name, draws in by_policy.items():
        l0 = statistics.fmean(values) if (values := [value for value in draws.values() if value is not None]) else None
        settings = plan.panel["controls"].get(name)
        has_latents = settings is None or new_control(settings).has_latents
        off = l0 / own - 1 if l0 is not None and own and has_latents else None
        about = {"label": policy_label(name), "controls_for": grouped.controls.get(name, "")}
        controls[name] = {**about, "l0": l0, "l0_off": off}
    return controls


def _null_data(measured: Measurements, name: str, part: str) -> dict[str, dict[str, float | None]]:
    """Return what an SAE has on null data by their name; a transcoder reads the null version of its source."""
    parts = {null: null.removesuffix(f"_{part}") for null in measured.nulls if null.endswith(part)}
    return {
        name_of_null: {
            metric: measured.values.get(Tag(metric, null), {}).get(Member(name, 0, null)) for metric in _NULL_METRICS
        }
        for null, name_of_null in parts.items()
    }


def _remake(plan: Plan, grouped: Measurements, comparisons: list[Comparison]) -> dict[str, Any] | None:
    if plan.remake is None:
        return None
    part = f"{plan.part} {REMAKE}".strip() if grouped.controls else plan.part
    own = [one for one in comparisons if one.tag.part == part and one.baseline in RANDOM_BASELINES]
    metrics = _metrics(grouped, part, TRAINED, own, plan)
    return {
        **plan.remake.as_json(),
        "l0": {policy: dict(draws) for policy, draws in grouped.by_policy(Tag("l0", part)).items()},
        "values": {name: metric["value"] for name, metric in metrics.items()},
        "verdict": verdict_as_json(own, [grouped]),
        "questions": questions_of(metrics, "frozen twins"),
    }
