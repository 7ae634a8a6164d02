"""Values that are not finite count in no table, chart or verdict: the commands that make these say which there are."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sae_lightning.members import Member
from sae_lightning.moving_line import wrapped

if TYPE_CHECKING:
    from sae_lightning.runs import Run


def say_not_finite(runs: "Iterable[Run]") -> None:
    """Write a sentence to stderr for each set of members of a run that lack finite values of the same metrics."""
    for run in runs:
        metrics: dict[Member, list[str]] = {}
        for tag, values in run.measurements.values.items():
            for member, value in values.items():
                if value is None:
                    metrics.setdefault(member, []).append(tag.metric)
        members: dict[str, list[Member]] = {}
        for member, names in metrics.items():
            members.setdefault(", ".join(names), []).append(member)
        for lacked, lacking in members.items():
            who = ", ".join(map(str, lacking))
            told = f"{run.folder}: no finite value of {lacked} for {who}: shown as - and left out of the verdict"
            print(wrapped(told, 4), file=sys.stderr)
