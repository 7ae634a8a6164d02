"""The verdict as JSON: ``verdict.json`` of a run, and what ``sae compare --json`` prints."""

import json
import math
from collections.abc import Sequence
from typing import Any

from sae_lightning.members import TRAINED, Tag
from sae_lightning.metric import MARGIN
from sae_lightning.runs import Experiment, Measurements, Run
from sae_lightning.runs.run import VERDICT_FILE
from sae_lightning.verdict.comparison import Comparison
from sae_lightning.verdict.decide import decide, floor_of
from sae_lightning.verdict.stable_latents import as_json, stable_latents
from sae_lightning.verdict.statistics import LEVEL, smallest_difference
from sae_lightning.whole_files import write_whole

RULE = (
    "beats, loses: the interval leaves out 0; equivalent: it lies within the margin, a share of what the trained one "
    "has above the floor; unclear: these data cannot tell; intervals hold for all random baselines of a metric at once "
    "(Bonferroni)"
)
CONTROL_RULE = (
    "beats, loses: the interval leaves out 0; equivalent: it lies within the margin, a share of what the published one "
    "has above the floor; unclear: these data cannot tell; the published one is compared with the mean over draws of a "
    "control, by a prediction interval: it holds 0 where that could be one more draw; intervals hold for all "
    "controls of a metric at once (Bonferroni)"
)


def write_verdict(run: Run) -> None:
    """Write ``verdict.json`` into the run folder, where there is anything to compare."""
    measurements = [run.measurements.by_size()]
    if comparisons := decide(measurements):
        text = json.dumps(verdict_as_json(comparisons, measurements), indent=1)
        write_whole(run.folder / VERDICT_FILE, text + "\n")


def verdict_as_json(
    comparisons: Sequence[Comparison], runs: Sequence[Measurements], margin: float = MARGIN
) -> dict[str, Any]:
    """Return the verdict for programs; numbers that do not exist are null.

    Args:
        comparisons: between the runs.
        runs: of one experiment.
        margin: the one that the comparisons were made with.
    """
    metrics: dict[str, Any] = {}
    for comparison in comparisons:
        entry = metrics.setdefault(str(comparison.tag), _about(runs, comparison))
        entry["baselines"][comparison.baseline] = _control(runs, comparison) | {
            "value": comparison.value,
            "floor": comparison.baseline_floor,
            "difference": comparison.difference.mean,
            "interval": _interval(comparison),
            "n_compared": comparison.difference.n_compared,
            "p": _finite(comparison.difference.p) if comparison.has_interval else None,
            "verdict": comparison.verdict,
            "is_within_margin": comparison.is_within_margin,
            "share_above_floor": comparison.share,
            "n_seeds": comparison.n_seeds,
            "n_items": comparison.n_items,
            "notes": comparison.notes,
        }
    published = {bool(comparison.published) for comparison in comparisons}
    rules = {"rule": RULE} if published != {True} else {}
    rules |= {"control_rule": CONTROL_RULE} if True in published else {}
    return {"level": LEVEL, "margin": margin, **rules, "metrics": metrics}


def _control(runs: Sequence[Measurements], comparison: Comparison) -> dict[str, Any]:
    """Return what is said of a control alone."""
    if not comparison.n_draws:
        return {}
    clauses = {name: clause for run in runs for name, clause in run.controls.items()}
    return {"controls_for": clauses.get(comparison.baseline, ""), "n_draws": comparison.n_draws}


def _about(runs: Sequence[Measurements], comparison: Comparison) -> dict[str, Any]:
    """Return what is the same against all baselines."""
    tag = comparison.tag
    describing = next(run for run in runs if run.better(tag))
    return {
        "label": describing.label(tag),
        "question": describing.metric(tag).question.text,
        "better": describing.better(tag),
        "floor": floor_of(runs, tag, TRAINED),
        "smallest_difference": evaluator_noise(runs, tag),
        "margin": comparison.margin,
        **_compared(runs, comparison),
        "baselines": {},
    }


def _compared(runs: Sequence[Measurements], comparison: Comparison) -> dict[str, Any]:
    """Return the value of the SAE that is compared, and of a published one which it is."""
    if not comparison.published:
        return {TRAINED: comparison.trained}
    where = next(run.references[comparison.published] for run in runs if comparison.published in run.references)
    return {"reference": {"name": comparison.published, "where": where, "value": comparison.trained}}


def evaluator_noise(runs: Sequence[Measurements], tag: Tag) -> float | None:
    """Return the smallest difference that the evaluator of a metric can tell, see `smallest_difference`."""
    repeats = [values for run in runs for values in run.repeats.get(tag, {}).values()]
    return smallest_difference([values for values in repeats if all(map(math.isfinite, values))])


def experiments_as_json(experiments: Sequence[Experiment], margin: float = MARGIN) -> dict[str, Any]:
    """Put everything into one object; a floor on which experiments disagree carries the names of its runs."""
    metrics: dict[str, dict[str, list[float | None]]] = {}
    floors: dict[str, float | None] = {}
    all_floors = [experiment.floors() for experiment in experiments]
    for experiment, own_floors in zip(experiments, all_floors, strict=True):
        label = f" ({experiment.name})" if len(experiments) > 1 else ""
        for tag, policies in experiment.values().items():
            metrics.setdefault(str(tag), {}).update({policy + label: values for policy, values in policies.items()})
        for tag, floor in own_floors.items():
            agreed = all(other.get(tag, floor) == floor for other in all_floors)
            floors[str(tag) if agreed else f"{tag}{label}"] = floor
    verdicts = {
        experiment.name: verdict_as_json(decide(runs, margin), runs, margin)
        for experiment in experiments
        if (runs := experiment.measurements)
    }
    stability = {
        experiment.name: as_json(results)
        for experiment in experiments
        if (results := stable_latents(experiment.measurements))
    }
    notes = [note for experiment in experiments for note in experiment.notes]
    return {"metrics": metrics, "floors": floors, "verdicts": verdicts, "stability": stability, "notes": notes}


def _interval(comparison: Comparison) -> list[float | None]:
    """Return both ends; null where there is none, or one of no width, which a program would take for certainty."""
    difference = comparison.difference
    return [difference.low, difference.high] if comparison.has_interval else [None, None]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
