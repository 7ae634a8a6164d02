"""Probes on latents: tasks, what probes read of a model, the probes themselves."""

from sae_lightning.probing.cities import CityAttribute
from sae_lightning.probing.files import LabelledFiles
from sae_lightning.probing.hub import SAEBenchSet
from sae_lightning.probing.prepared import PreparedTask
from sae_lightning.probing.python_code import PythonIndentation, PythonPackage, PythonTokens
from sae_lightning.probing.task import Example, ExampleSets, ProbingTask

__all__ = [
    "CityAttribute",
    "Example",
    "ExampleSets",
    "LabelledFiles",
    "PreparedTask",
    "ProbingTask",
    "PythonIndentation",
    "PythonPackage",
    "PythonTokens",
    "SAEBenchSet",
]
