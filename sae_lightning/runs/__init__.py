"""Finished runs: the one way to read what a run left in its folder."""

from sae_lightning.runs.experiment import Experiment, experiments_of
from sae_lightning.runs.measurements import Measurements, describing
from sae_lightning.runs.metrics_lines import METRICS_FILE, Validation
from sae_lightning.runs.run import Run, read_runs

__all__ = [
    "METRICS_FILE",
    "Experiment",
    "Measurements",
    "Run",
    "Validation",
    "describing",
    "experiments_of",
    "read_runs",
]
