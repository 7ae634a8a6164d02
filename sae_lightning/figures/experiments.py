"""Figures of whole experiments: what the SAE and its baselines score, in one of them and over several."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from sae_lightning.figures.chart import FigureSkipped
from sae_lightning.figures.headlines import headline_charts
from sae_lightning.figures.png import figure_of
from sae_lightning.figures.sweeps import l0_charts, length_charts, soft_freeze_charts, soft_limits
from sae_lightning.nouns import noun
from sae_lightning.runs import Experiment
from sae_lightning.runs.drift import NO_LIMIT
from sae_lightning.runs.series import FREEDOM, LENGTH, SPARSITY, VARIANT, Axis, alike_but_for, differ_along

_MOST_NAMES = 60
"""Characters of the names of runs in a title."""
_MOST_LABEL = 22
"""Characters of the names of rows with which two charts have room side by side."""


def headlines(experiment: Experiment) -> Figure:
    """Draw the headline metric of each question: what does a trained SAE score that its baselines do not?"""
    if not (charts := headline_charts(experiment.measurements)):
        raise FigureSkipped("no metric says which way is better, as those of older versions do not")
    title = f"What does the {noun()} score, and what do its baselines?"
    rows = [row for chart in charts for row in chart.rows]
    about = _of_experiment(experiment)
    if any(row.verdict for row in rows):
        about += "\nwords: the first of each chart against each of the others"
    is_wide = max(len(row.label) for row in rows) > _MOST_LABEL
    return figure_of(charts, f"{title}\n{about}", columns=1 if is_wide else 2)


def metrics_vs_l0(experiments: Sequence[Experiment]) -> Figure:
    """Draw the headline metrics against l0: what does a trained SAE score at each sparsity, and its baselines?"""
    variants = alike_but_for(experiments, SPARSITY)
    title = f"What do the {noun()} and its baselines score at each sparsity?"
    several = len(variants) > 1
    columns = len(variants) if several else 2
    return figure_of(l0_charts(variants), _over(title, experiments), columns, share_x=several, share_y=several)


def soft_freeze(experiments: Sequence[Experiment]) -> Figure:
    """Draw the headline metrics against the least cosine that a soft freeze allows."""
    title = "How free must directions be to move from their start?"
    return figure_of(soft_freeze_charts(experiments), _over(title, experiments), columns=2)


def training_length(experiments: Sequence[Experiment]) -> Figure:
    """Draw the headline metrics, and how far seeds agree, against the length of training."""
    title = f"Does longer training part the {noun()} from its baselines?"
    return figure_of(length_charts(experiments), _over(title, experiments), columns=2)


def _over(title: str, experiments: Sequence[Experiment]) -> str:
    """Add to a title what is drawn."""
    names = ", ".join(one.name if len(experiments) > 1 else _name_of(one) for one in experiments)
    shown = names if len(names) < _MOST_NAMES else f"{len(experiments)} experiments"
    has_bands = max(map(_n_seeds, experiments)) > 1
    return f"{title}\n{shown}{'; bands: 95% interval of the mean over seeds' if has_bands else ': 1 seed'}"


def _of_experiment(experiment: Experiment) -> str:
    n_seeds = _n_seeds(experiment)
    repeated = "draws" if any(run.references for run in experiment.runs) else "seeds"
    told = "1 seed" if n_seeds == 1 else f"mean over {n_seeds} {repeated} and its 95% interval"
    return f"{_name_of(experiment)}: {told}"


def _name_of(experiment: Experiment) -> str:
    return experiment.runs[0].title if len(experiment.runs) == 1 else experiment.name


def _n_seeds(experiment: Experiment) -> int:
    return max(len(values) for by_policy in experiment.values().values() for values in by_policy.values())


@dataclass(frozen=True)
class Sweep:
    """A figure of several experiments that differ in one thing.

    Args:
        draw: it.
        axis: what they differ in.
        needs: that, in words.
        is_there: whether experiments that differ in nothing else differ in that.
    """

    draw: Callable[[Sequence[Experiment]], Figure]
    axis: Axis
    needs: str
    is_there: Callable[[Sequence[Experiment], Axis], bool] = differ_along

    @property
    def name(self) -> str:
        """Name of the figure."""
        return self.draw.__name__

    def groups(self, experiments: Sequence[Experiment]) -> list[list[Experiment]]:
        """Return the experiments that stand in one figure, for each figure."""
        return [group for group in alike_but_for(experiments, self.axis) if self.is_there(group, self.axis)]


def _has_limits(experiments: Sequence[Experiment], axis: Axis) -> bool:
    limits = {limit for experiment in experiments for limit in soft_limits(experiment).values()}
    return len(limits - {NO_LIMIT}) > 1


SWEEPS = (
    Sweep(metrics_vs_l0, VARIANT, "runs that differ in how many latents fire, or in the variant, and in nothing else"),
    Sweep(soft_freeze, FREEDOM, "a soft freeze with several values of min_cosine", _has_limits),
    Sweep(training_length, LENGTH, "runs that differ in the length of training and in nothing else"),
)
