"""The verdict as JSON: ``verdict.json`` of a run, and what ``sae compare --json`` prints."""

import json
from collections.abc import Sequence
from typing import Any

from sae_lightning.runs import Experiment, Run
from sae_lightning.verdict.decide import decide, verdict_as_json

VERDICT_FILE = "verdict.json"


def write_verdict(run: Run) -> None:
    """Write ``verdict.json`` into the run folder, where there is anything to compare."""
    measurements = [run.measurements.by_size()]
    if comparisons := decide(measurements):
        text = json.dumps(verdict_as_json(comparisons, measurements), indent=1)
        (run.folder / VERDICT_FILE).write_text(text + "\n", encoding="utf-8")


def experiments_as_json(experiments: Sequence[Experiment]) -> dict[str, Any]:
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
        experiment.name: verdict_as_json(decide(experiment.measurements), experiment.measurements)
        for experiment in experiments
    }
    return {"metrics": metrics, "floors": floors, "verdicts": verdicts}
