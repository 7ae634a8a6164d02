"""`Experiment`: runs in which everything but seeds and freeze policies agrees, read as one."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sae_lightning.members import TRAINED, Member, Tag
from sae_lightning.runs.joined import JoinedRun, fingerprints, measures_the_same, same_content
from sae_lightning.runs.measurements import Measurements, in_order
from sae_lightning.runs.run import Run, short_names
from sae_lightning.runs.settings import Settings

_MOST_DIFFERENCES = 6


@dataclass(frozen=True)
class Experiment:
    """Runs of one experiment.

    Args:
        runs: one or more; those that measured the same SAEs are one.
        name: their short names.
        left_out: for each run the members that another one before it has.
        notes: what counts once, and why; how the runs differ from those of another experiment.
    """

    runs: Sequence[Run]
    name: str
    left_out: Sequence[frozenset[Member]] = ()
    notes: Sequence[str] = field(default=(), compare=False)

    @property
    def measured(self) -> list[Measurements]:
        """What each run measured, each SAE in one of them."""
        left_out = self.left_out or [frozenset[Member]()] * len(self.runs)
        return [run.measurements.without(own) for run, own in zip(self.runs, left_out, strict=True)]

    @property
    def measurements(self) -> list[Measurements]:
        """The same, of a family each size as a panel of its own."""
        return [measured.by_size() for measured in self.measured]

    @property
    def tags(self) -> list[Tag]:
        """Every metric, in the order of tables."""
        measured = self.measured
        return in_order(measured, dict.fromkeys(tag for run in measured for tag in run.values))

    def values(self) -> dict[Tag, dict[str, list[float | None]]]:
        """Return a value per seed by metric and policy; a single one of a reference that is the same in all runs."""
        values: dict[Tag, dict[str, list[float | None]]] = {tag: {} for tag in self.tags}
        for number, run in enumerate(self.measured):
            for tag in run.values:
                for policy, seeds in run.by_policy(tag).items():
                    own = values[tag].setdefault(policy, [])
                    is_again = number and run.is_reference(policy) and all(value in own for value in seeds.values())
                    own.extend([] if is_again else seeds.values())
        return values

    def floors(self) -> dict[Tag, float | None]:
        """Return the mean floor of each metric; None where no run has a number."""
        floors: dict[Tag, list[float]] = {}
        for run in self.measured:
            for tag in run.floors:
                floor = run.floor(tag)
                floors.setdefault(tag, []).extend([] if floor is None else [floor])
        return {tag: statistics.fmean(numbers) if numbers else None for tag, numbers in floors.items()}

    @property
    def first_size_with_baselines(self) -> str | None:
        """The first size of a family that has baselines beside it; None of other runs. A published SAE is none."""
        measured = [run.measurements for run in self.runs]
        sizes = (size for run in measured for size, kind in run.sizes.values() if kind != TRAINED)
        return next((size for size in sizes if not any(size in run.references for run in measured)), None)


def experiments_of(runs: Sequence[Run]) -> list[Experiment]:
    """Put runs of one experiment together, in the order given, and count no SAE twice.

    Runs that measured the same SAEs become one (`JoinedRun`). Runs are one experiment where all settings but the seeds
    agree; those of a freeze policy may differ where no policy is in both. An SAE that a run before it has, by content
    or by settings and seeds, is left out.
    """
    joined = _joined(runs)
    names = short_names([run.folder for run in joined])
    settings = {id(run): Settings.of(run) for run in joined}
    groups: list[list[Run]] = []
    for run in joined:
        own = settings[id(run)]
        for group in groups:
            others = [settings[id(other)] for other in group]
            if own and all(other and not other.differences(own) for other in others):
                group.append(run)
                break
        else:
            groups.append([run])
    experiments: list[Experiment] = []
    for group in groups:
        left_out, repeated = _left_out(group, [settings[id(run)] for run in group])
        notes = [note for run in group for note in _counted_once(run)] + repeated
        earlier = {experiment.name: [settings[id(run)] for run in experiment.runs] for experiment in experiments}
        notes += _differences(earlier, settings[id(group[0])], names[group[0].folder])
        experiments.append(Experiment(group, "+".join(names[run.folder] for run in group), left_out, notes))
    return experiments


def _joined(runs: Sequence[Run]) -> list[Run]:
    """Make one run of those that measured the same SAEs on the same data."""
    groups: list[list[Run]] = []
    for run in runs:
        for group in groups:
            own, others = Settings.of(run), Settings.of(group[0])
            is_same = not own.differences(others, is_training_known=False) if own and others else own is others
            if is_same and measures_the_same(run, group[0]):
                group.append(run)
                break
        else:
            groups.append([run])
    return [JoinedRun(group) if len(group) > 1 else group[0] for group in groups]


def _counted_once(run: Run) -> list[str]:
    again = [
        f"{path} is the folder {own.folder} again, which counts once"
        for own in run.separate
        for path in own.given_again
    ]
    return again + (run.notes() if isinstance(run, JoinedRun) else [])


def _left_out(runs: Sequence[Run], settings: Sequence[Settings | None]) -> tuple[list[frozenset[Member]], list[str]]:
    """Return for each run the SAEs that one before it has, and say so."""
    left_out, notes = [], []
    for number, run in enumerate(runs):
        reasons: dict[Member, str] = {}
        for earlier, own in zip(runs[:number], settings, strict=False):
            drawn = settings[number]
            has_same_seeds = own is not None and drawn is not None and own.seeds == drawn.seeds
            for member in _saes(run):
                if has_same_seeds and member in _saes(earlier):
                    reasons.setdefault(member, f"the settings and seeds of {earlier.folder}")
                elif _is_in(earlier, run, member):
                    reasons.setdefault(member, f"the same weights as {earlier.folder}")
        left_out.append(frozenset(reasons))
        for reason in dict.fromkeys(reasons.values()):
            own_members = sorted(map(str, (member for member, text in reasons.items() if text == reason)))
            shown = ", ".join(own_members[:4]) + (f" and {len(own_members) - 4} more" if len(own_members) > 4 else "")
            notes.append(f"{run.folder}: {shown} left out, with {reason}: one seed counts once")
    return left_out, notes


def _is_in(earlier: Run, run: Run, member: Member) -> bool:
    """Return whether a run has this SAE, under whatever seed."""
    alike = [other for other in _saes(earlier) if (other.policy, other.part) == (member.policy, member.part)]
    own = fingerprints(run, member)
    return any(own & fingerprints(earlier, other) for other in alike) or (
        member in alike and same_content(run, earlier, member)
    )


def _saes(run: Run) -> set[Member]:
    members = {member for values in run.last.values.values() for member in values}
    return {member for member in members if not run.measurements.is_reference(member.policy)}


def _differences(earlier: Mapping[str, Sequence[Settings | None]], own: Settings | None, name: str) -> list[str]:
    """Say in what a run differs from that of another experiment which is nearest to it."""
    compared = [
        (texts, place)
        for place, others in earlier.items()
        for other in others
        if own and other and (texts := other.differences(own))
    ]
    if not compared:
        return []
    texts, nearest = min(compared, key=lambda pair: len(pair[0]))
    more = f", and {len(texts) - _MOST_DIFFERENCES} more" if len(texts) > _MOST_DIFFERENCES else ""
    return [f"{nearest} and {name} are different experiments: {'; '.join(texts[:_MOST_DIFFERENCES])}{more}"]
