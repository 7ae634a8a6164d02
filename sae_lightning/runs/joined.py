"""`JoinedRun`: a run and others that measured the same SAEs again, read as one."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from typing_extensions import override

from sae_lightning.members import Member, Tag
from sae_lightning.runs.items import MetricItems
from sae_lightning.runs.latents import LatentValues
from sae_lightning.runs.metrics_lines import Validation
from sae_lightning.runs.run import Run

V = TypeVar("V")


class JoinedRun(Run):
    """A run with everything that was measured of its SAEs: as a run, with more metrics at its last validation.

    Where two runs measured one metric, the later measurement counts.

    Args:
        runs: two or more; the one that has the SAEs is the run, the others measured them.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        first = next((run for run in runs if run.saes), next((run for run in runs if run.is_fit), runs[0]))
        super().__init__(first.folder)
        self.runs = sorted(runs, key=lambda run: (run is not first, str(run.starts[-1]["time"]) if run.starts else ""))
        self.first = first

    @property
    @override
    def separate(self) -> Sequence[Run]:
        return self.runs

    @override
    def _read_validations(self) -> list[Validation]:
        first = self.first.validations
        about = dict(first[-1].about)
        for run in self.runs[1:]:
            about |= run.measurements.metrics
        last = replace(
            first[-1],
            about=about,
            values=self._join(lambda run: run.last.values),
            floors=self._join(lambda run: run.last.floors),
            member_floors=self._join(lambda run: run.last.member_floors),
            repeats=self._join(lambda run: run.last.repeats),
            sizes=next((run.last.sizes for run in self.runs if run.last.sizes), {}),
        )
        return [*first[:-1], last]

    @override
    def _items(self) -> dict[Tag, MetricItems]:
        return self._join(lambda run: run._items())

    @override
    def _latents(self) -> dict[str, LatentValues]:
        return {name: values for run in self.runs for name, values in run._latents().items()}

    def _join(self, read: Callable[[Run], Mapping[Tag, V]]) -> dict[Tag, V]:
        """Take what belongs to each metric from the last run that measured it."""
        return {tag: read(run)[tag] for tag, run in self._source.items() if tag in read(run)}

    @cached_property
    def _source(self) -> dict[Tag, Run]:
        return {tag: run for run in self.runs for tag in run.last.values}

    @override
    def file(self, name: str) -> Path:
        return next((run.file(name) for run in reversed(self.runs) if run.file(name).exists()), self.folder / name)

    @override
    def found(self, pattern: str, read: Callable[[Path], Any]) -> list[tuple[Path, Any]]:
        return [pair for run in self.runs for pair in run.found(pattern, read)]

    def notes(self) -> list[str]:
        """Say what each other run adds, and which metrics it measured otherwise than the run before it."""
        notes = []
        for number, run in enumerate(self.runs[1:], 1):
            before = {tag: earlier for earlier in self.runs[:number] for tag in earlier.last.values}
            new = [str(tag) for tag in run.last.values if tag not in before]
            what = "has the same SAEs as" if run.is_fit else "measured again the SAEs of"
            text = f"{run.title} {what} {self.runs[0].title}, which count once; it adds "
            text += f"{len(new)} metric{'' if len(new) == 1 else 's'}" if new else "no metric"
            other = [str(tag) for tag in run.last.values if tag in before and _differ(run, before[tag], tag)]
            if other:
                text += f", and its later values are shown of {', '.join(other[:4])}"
                text += f" and {len(other) - 4} others" if len(other) > 4 else ""
            notes.append(text)
        return notes


def _differ(run: Run, earlier: Run, tag: Tag) -> bool:
    own, others = run.last.values[tag], earlier.last.values[tag]
    shared = [member for member in own if member in others]
    return not all(close(own[member], others[member]) for member in shared) or len(shared) < len(others)


def close(one: float | None, other: float | None) -> bool:
    """Return whether two measurements of one SAE agree, up to rounding on another machine."""
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-6)


def measures_the_same(one: Run, other: Run) -> bool:
    """Return whether two runs measured the same SAEs, whatever their folders are called: all of them, by content."""
    saes = [set(run.last.fingerprints) or set(run.saes) for run in (one, other)]
    measured = [{member for values in run.last.values.values() for member in values} for run in (one, other)]
    if any(saes):  # a run that does not know its SAEs has those of the other among what it measured
        own, others = (known or measured[place] & saes[1 - place] for place, known in enumerate(saes))
        return bool(own) and own == others and all(same_content(one, other, member) for member in own)
    shared = [tag for tag in one.last.values if tag in other.last.values]
    if not shared or any(set(one.last.values[tag]) != set(other.last.values[tag]) for tag in shared):
        return False
    return all(
        same_content(one, other, member) for member in {member for tag in shared for member in one.last.values[tag]}
    )


def same_content(one: Run, other: Run, member: Member) -> bool:
    """Return whether a member is the same SAE in two runs: by its tensors or, where they are unknown, by values."""
    prints = fingerprints(one, member), fingerprints(other, member)
    if all(prints):
        return bool(prints[0] & prints[1])
    pairs = [
        (values[member], other.last.values[tag][member])
        for tag, values in one.last.values.items()
        if member in values and member in other.last.values.get(tag, {})
    ]
    # Counts such as l0 of a TopK agree between SAEs that differ: some number has to be one that only chance would give.
    telling = [first for first, _ in pairs if first is not None and not float(first * 2).is_integer()]
    return bool(telling) and all(close(first, second) for first, second in pairs)


def fingerprints(run: Run, member: Member) -> set[str]:
    """Return the fingerprints of an SAE as it was measured and as it was exported, which may be some steps later."""
    return {run.last.fingerprints.get(member, ""), run.fingerprint(member)} - {""}
