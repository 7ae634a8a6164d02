"""Probes on latents: tasks, what probes read of a model, the probes themselves."""

from sae_lightning.probing.files import LabelledFiles
from sae_lightning.probing.hub import SAEBenchSet
from sae_lightning.probing.prepared import PreparedTask
from sae_lightning.probing.sae_probes import SAEProbesSets
from sae_lightning.probing.task import Example, ExampleSets, ProbingTask

__all__ = [
    "Example",
    "ExampleSets",
    "LabelledFiles",
    "PreparedTask",
    "ProbingTask",
    "SAEBenchSet",
    "SAEProbesSets",
]
