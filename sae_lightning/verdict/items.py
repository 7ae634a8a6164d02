"""``items.safetensors`` of a run: what the metrics in the last line of ``metrics.jsonl`` were averaged over.

Tensors `<metric>/<policy>/<seed>/<numerators|denominators>`; the metadata hold the optimizer step and which metrics put
the same items to every member.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sae_lightning.evaluators.base import Scores

FILE_NAME = "items.safetensors"

Of: TypeAlias = dict[tuple[str, str], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Numerators and denominators [n_items] by policy and seed."""


@dataclass(frozen=True)
class MetricItems:
    """The items of one metric.

    Args:
        of: numerators and denominators [n_items] by policy and seed.
        paired: whether item i is the same for all.
    """

    of: Of
    paired: bool


def write_items(folder: Path, step: int, measured: Mapping[str, "Scores"]) -> None:
    """Write the items of all metrics that have any, in place of those of an earlier validation."""
    from safetensors.numpy import save_file

    from sae_lightning.saes.module import chart, curve, part_of  # reading needs no torch

    tensors: dict[str, NDArray[np.float64]] = {}
    paired = set()
    for metric, scores in measured.items():
        if scores.items is None:
            continue
        for member, numerators in scores.items.numerators.items():
            name = chart(metric, part_of(member))
            both = {"numerators": numerators, "denominators": scores.items.denominators[member]}
            for kind, values in both.items():
                tensors[f"{name}/{curve(member)}/{kind}"] = values.detach().double().cpu().numpy().copy()
            if scores.items.paired:
                paired.add(name)
    path = folder / FILE_NAME
    new = path.with_suffix(".tmp")
    save_file(tensors, new, metadata={"step": str(step), "paired": json.dumps(sorted(paired))})
    new.replace(path)


def read_items(folder: Path, step: int) -> dict[str, MetricItems]:
    """Items by metric; none where the run has written none at this step."""
    from safetensors import safe_open

    path = folder / FILE_NAME
    if not path.is_file():
        return {}
    found: dict[str, MetricItems] = {}
    with safe_open(path, "np") as file:
        about = file.metadata()
        if int(about["step"]) != step:
            return {}
        paired = set(json.loads(about["paired"]))
        for name in file.keys():  # noqa: SIM118 - not a dict
            metric, policy, seed, kind = name.split("/")
            if kind == "numerators":
                items = found.setdefault(metric, MetricItems({}, metric in paired))
                both = file.get_tensor(name), file.get_tensor(f"{metric}/{policy}/{seed}/denominators")
                items.of[policy, seed] = both
    return found
