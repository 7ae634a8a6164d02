"""`Experiment`: runs whose model and data settings agree up to seeds and freeze policies, read as one."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sae_lightning.members import TRAINED, Tag
from sae_lightning.runs.measurements import Measurements
from sae_lightning.runs.run import Run, short_names


@dataclass(frozen=True)
class Experiment:
    """Runs of one experiment.

    Args:
        runs: one or more.
        name: their short names.
    """

    runs: Sequence[Run]
    name: str

    @property
    def measurements(self) -> list[Measurements]:
        """What each run measured; of a family each size as a panel of its own."""
        return [run.measurements.by_size() for run in self.runs]

    @property
    def tags(self) -> list[Tag]:
        """Every metric, in the order of tables."""
        tags = list(dict.fromkeys(tag for run in self.runs for tag in run.measurements.values))
        return self.runs[0].measurements.in_order(tags)

    def values(self) -> dict[Tag, dict[str, list[float | None]]]:
        """Return a value per seed of all runs, by metric and policy."""
        values: dict[Tag, dict[str, list[float | None]]] = {tag: {} for tag in self.tags}
        for run in self.runs:
            for tag in run.measurements.values:
                for policy, seeds in run.measurements.by_policy(tag).items():
                    values[tag].setdefault(policy, []).extend(seeds.values())
        return values

    def floors(self) -> dict[Tag, float | None]:
        """Return the mean floor of each metric; None where no run has a number."""
        floors: dict[Tag, list[float]] = {}
        for run in self.runs:
            for tag, floor in run.measurements.floors.items():
                floors.setdefault(tag, []).extend([] if floor is None else [floor])
        return {tag: statistics.fmean(numbers) if numbers else None for tag, numbers in floors.items()}

    @property
    def first_size_with_baselines(self) -> str | None:
        """The first size of a family that has baselines beside it; None of other runs."""
        sizes = (size for run in self.runs for size, kind in run.measurements.sizes.values() if kind != TRAINED)
        return next(sizes, None)


def experiments_of(runs: Sequence[Run]) -> list[Experiment]:
    """Put runs of one experiment together, in the order given."""
    names = short_names([run.folder for run in runs])
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_shared_settings(run) or str(run.folder), []).append(run)
    return [Experiment(group, "+".join(names[run.folder] for run in group)) for group in groups.values()]


def _shared_settings(run: Run) -> str | None:
    """Return what makes two runs one experiment, as text; None where the run has no settings."""
    if not run.config:
        return None
    arguments = run.model["init_args"]
    is_panel = "policies" in arguments and "sae" in arguments  # which is compared by the SAE that it holds
    model = arguments["sae"] if is_panel else run.settings.get("model")
    return json.dumps(_without_seeds([model, run.settings.get("data")]), sort_keys=True, default=str)


def _without_seeds(settings: Any) -> Any:
    if isinstance(settings, dict):
        return {key: _without_seeds(value) for key, value in settings.items() if key not in ("seed", "seeds", "d_in")}
    if isinstance(settings, list):
        return [_without_seeds(value) for value in settings]
    return settings
