"""``items.safetensors``: what the metrics in the last line of ``metrics.jsonl`` were averaged over.

Tensors `<metric>/<policy>/<seed>/<numerators|denominators>`; the metadata hold the format, the optimizer step, and
which metrics put the same items to every member.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sae_lightning.members import Member, Tag
from sae_lightning.whole_files import whole_file

if TYPE_CHECKING:
    from sae_lightning.evaluators.scores import Scores

ITEMS_FILE = "items.safetensors"
FORMAT = 1

Fractions: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Numerators and denominators [n_items]."""


@dataclass(frozen=True)
class MetricItems:
    """The items of one metric.

    Args:
        members: numerators and denominators [n_items] of each.
        paired: whether item i is the same question to all.
    """

    members: Mapping[Member, Fractions]
    paired: bool


def write_items(folder: Path, step: int, measured: Iterable["Scores"]) -> None:
    """Write the items of all metrics that have any, in place of those of an earlier validation."""
    from safetensors.numpy import save_file

    tensors: dict[str, NDArray[np.float64]] = {}
    paired = set()
    for scores in measured:
        if scores.items is None:
            continue
        for member, numerators in scores.items.numerators.items():
            tag = Tag(scores.metric.name, member.part)
            both = {"numerators": numerators, "denominators": scores.items.denominators[member]}
            for kind, values in both.items():
                tensors[f"{tag}/{member.curve}/{kind}"] = values.detach().double().cpu().numpy().copy()
            if scores.items.paired:
                paired.add(str(tag))
    metadata = {"format": str(FORMAT), "step": str(step), "paired": json.dumps(sorted(paired))}
    with whole_file(folder / ITEMS_FILE) as part:
        save_file(tensors, part, metadata=metadata)


def read_items(folder: Path, step: int) -> dict[Tag, MetricItems]:
    """Read the items; none where the run has written none at this step.

    Raises:
        ValueError: if the file is damaged or of a newer format.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / ITEMS_FILE
    if not path.is_file():
        return {}
    try:
        with safe_open(path, "np") as file:
            about = file.metadata() or {}
            if int(about.get("format", 1)) > FORMAT:
                raise ValueError(f"it has format {about['format']}, and this version reads up to {FORMAT}")
            if int(about["step"]) != step:
                return {}
            paired = set(json.loads(about["paired"]))
            members: dict[str, dict[Member, Fractions]] = {}
            for name in file.keys():  # noqa: SIM118 - not a dict
                metric, curve, kind = _split(name)
                if kind == "numerators":
                    member = Member.parse(f"{Tag.parse(metric).part}/{curve}".lstrip("/"))
                    both = file.get_tensor(name), file.get_tensor(f"{metric}/{curve}/denominators")
                    members.setdefault(metric, {})[member] = both
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}; remove it, and the verdict rests on seeds alone") from error
    return {Tag.parse(metric): MetricItems(own, metric in paired) for metric, own in members.items()}


def _split(name: str) -> tuple[str, str, str]:
    metric, policy, seed, kind = name.split("/")
    return metric, f"{policy}/{seed}", kind
