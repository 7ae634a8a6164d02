"""What a run holds: its metrics and, where the features of its data are known, how near its dictionaries came."""

import pkgutil
from argparse import ArgumentError
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from jaxtyping import Float
from lightning.pytorch.cli import LightningArgumentParser

from sae_lightning.class_paths import current_class_paths
from sae_lightning.compare import read_lines
from sae_lightning.datamodules import ActivationDataModule, CachedActivations
from sae_lightning.datamodules.model_activations import ModelActivations
from sae_lightning.error_messages import readable
from sae_lightning.metrics import best_cosine
from sae_lightning.metrics.random_dictionary import random_dictionary
from sae_lightning.saes import SparseAutoencoder

THRESHOLD = 0.8
"""Cosine above which a feature counts as recovered."""
RECOVERY = f"recovery_at_{THRESHOLD:g}"
FOLDER = "figures"


class LeftOut(Exception):
    """Why a figure is not drawn."""


@dataclass(frozen=True)
class Truth:
    """The known features of a run's data beside the dictionaries that it learned.

    Args:
        probabilities: how often each fires.
        best: by policy, the largest cosine of each feature to a decoder direction.
        chance: the same for a random dictionary of equal size.
    """

    probabilities: Float[np.ndarray, " n_features"]
    best: dict[str, Float[np.ndarray, "n_seeds n_features"]]
    chance: Float[np.ndarray, " n_features"]


@dataclass(frozen=True)
class Run:
    """What is drawn of a run.

    Args:
        folder: the run folder.
        lines: those of ``metrics.jsonl``.
        exported: policies that left SAEs; none as long as the run has not finished.
        unit: what one activation is, "samples" or "tokens".
        truth: None where it is not known.
        why_no_truth: told to the user.
        part: of the activations, where SAEs were trained at several hooks or on nulls; a run has one `Run` for each.
    """

    folder: Path
    lines: list[dict[str, Any]]
    exported: set[str]
    unit: str = "samples"
    truth: Truth | None = None
    why_no_truth: str = ""
    part: str = ""

    @property
    def title(self) -> str:
        """Experiment and version."""
        return "/".join(self.folder.resolve().parts[-2:]) + (f", {self.part}" if self.part else "")

    @property
    def figures(self) -> Path:
        """Where its figures lie."""
        return self.folder / FOLDER / self.part

    @property
    def policies(self) -> set[str]:
        """What is an SAE of this run, and not a reference beside them; a run that has not finished does not tell."""
        measured = self.lines[-1]["metrics"]
        return self.exported | set(measured.get(RECOVERY, {})) or {policy for of in measured.values() for policy in of}

    @property
    def seeds(self) -> str:
        """How many there are, for a title."""
        n = max((len(seeds) for of in self.lines[-1]["metrics"].values() for seeds in of.values()), default=1)
        return "1 seed" if n == 1 else f"mean over {n} seeds"

    @property
    def samples(self) -> int:
        """Activations seen in training."""
        return self.lines[-1]["samples"]


def read(folder: Path) -> list[Run]:
    """Read a run folder, part by part.

    Raises:
        ValueError: if it is none.
    """
    lines = read_lines(folder)
    parts = {metric.partition("@")[2] for metric in lines[-1]["metrics"]}
    if parts and "" not in parts:
        why = "its data are a language model's, whose true features are not known"
        return [
            Run(folder, [_of_part(line, part) for line in lines], set(), "tokens", None, why, part)
            for part in sorted(parts)
        ]
    exported = {path.parent.parent.name for path in folder.glob("saes/*/*/sae.safetensors")}
    unit = "samples"
    real = [_of_part(line, "") for line in lines]
    try:
        kind, datamodule = data_of(folder / "config.yaml")
        unit = kind.unit
        runs = [Run(folder, real, exported, unit, read_truth(folder, kind, datamodule))]
    except LeftOut as left_out:
        runs = [Run(folder, real, exported, unit, None, str(left_out))]
    why = "null data have no true features"
    return runs + [
        Run(folder, [_of_part(line, part) for line in lines], set(), unit, None, why, part)
        for part in sorted(parts - {""})
    ]


def _of_part(line: dict[str, Any], part: str) -> dict[str, Any]:
    kept = ("metrics", "floors")
    return line | {
        kind: {name.partition("@")[0]: of for name, of in line[kind].items() if name.partition("@")[2] == part}
        for kind in kept
    }


def data_of(config: Path) -> tuple[type[ActivationDataModule], Callable[[], ActivationDataModule]]:
    """Read the section ``data`` of a configuration.

    Returns:
        Its class, and what makes the datamodule. The model is not made.
    """
    if not config.is_file():
        raise LeftOut(f"there is no {config}")
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(ActivationDataModule, "data", subclass_mode=True)
    try:
        written = current_class_paths(yaml.safe_load(config.read_text()) or {})
        settings = parser.parse_object({"data": written.get("data")})
    except ArgumentError as error:
        raise LeftOut(f"{config} does not say which data: {readable(str(error))}") from error
    kind: type[ActivationDataModule] = pkgutil.resolve_name(settings.data.class_path)
    return kind, lambda: parser.instantiate_classes(settings).data


def read_truth(
    folder: Path, kind: type[ActivationDataModule], make_datamodule: Callable[[], ActivationDataModule]
) -> Truth:
    """Compare the exported dictionaries with the features of the data.

    Raises:
        LeftOut: if either is missing.
    """
    # A language model has none, which need not be loaded to find that out.
    source: Any = (
        None if issubclass(kind, (ModelActivations, CachedActivations)) else getattr(make_datamodule(), "source", None)
    )
    if getattr(source, "features", None) is None:
        raise LeftOut(f"the true features of {kind.__name__} are not known")
    best: dict[str, list[np.ndarray]] = {}
    size = 0
    for path in sorted(folder.glob("saes/*/*/sae.safetensors")):
        W_dec = SparseAutoencoder.load(path.parent).W_dec.detach()  # noqa: N806
        best.setdefault(path.parent.parent.name, []).append(_numpy(best_cosine(source.features, W_dec)))
        size = size or len(W_dec)
    if not best:
        raise LeftOut(f"there is no {folder / 'saes'}: the run has not finished")
    chance = best_cosine(source.features, random_dictionary(size, source.features.shape[1]))
    policies = {policy: np.stack(seeds) for policy, seeds in best.items()}
    return Truth(_numpy(source.firing_probabilities), policies, _numpy(chance))


def _numpy(values: torch.Tensor) -> np.ndarray:
    return values.double().numpy()
