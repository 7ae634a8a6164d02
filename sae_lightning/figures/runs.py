"""The figures of finished runs: PNG files in their folders, which TensorBoard shows beside their curves.

- recovery_by_frequency: which features are recovered, and how often do those fire?
- best_cosines: how near is the nearest decoder direction to each feature?
- training: explained variance, recovery and the cosine to the start, over the samples of the training.
- cosine_to_start: how far did the directions of decoder and encoder move?
- meta_latents: of a meta-SAE, which meta-latents is a latent made of, and which others are made of them?
- headlines: the headline metric of each question, the trained SAE and every baseline from the floor up.
- explained_variance_vs_recovery: does an SAE that explains more recover more? All runs in one figure.
- metrics_vs_l0, soft_freeze, training_length: the headline metrics over what runs differ in.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from sae_lightning.figures.chart import FigureSkipped
from sae_lightning.figures.drift import cosine_charts
from sae_lightning.figures.experiments import SWEEPS, headlines
from sae_lightning.figures.meta_latents import is_of_meta_sae, meta_graph
from sae_lightning.figures.png import figure_of, show_in_tensorboard, write
from sae_lightning.figures.recovery import (
    RECOVERY,
    best_cosines_chart,
    by_frequency_charts,
    explained_variance_vs_recovery_charts,
)
from sae_lightning.figures.training import training_charts
from sae_lightning.figures.truth import THRESHOLD, read_truth
from sae_lightning.members import Tag
from sae_lightning.nouns import a_noun, speaking_of
from sae_lightning.runs import Experiment, Run, experiments_of
from sae_lightning.runs.run import short_names

FOLDER = "figures"
_TRAINING = ("explained_variance", RECOVERY, "mean_best_cosine", "cosine_to_start_mean")


def draw(runs: Sequence[Run], out: Path) -> tuple[list[Path], list[str]]:
    """Draw every figure for which the runs have what it needs.

    Args:
        runs: one or more.
        out: folder of figures of several experiments; those of one lie in its first run, those of a part below it.

    Returns:
        The files written, and a line on figures that were not drawn for the same reason.
    """
    parts = [(run, part) for run in runs for part in parts_of(run)]
    folders = {(run, part): run.folder / FOLDER / part for run, part in parts}
    images: dict[tuple[Run, str], dict[str, Path]] = {one: {} for one in parts}
    skipped: dict[str, list[_Job]] = {}
    for job in [*_of_parts(folders), *_of_experiments(runs, out)]:
        try:
            with speaking_of(run.noun for run, _ in job.shown):
                path = write(job.draw(), job.folder / f"{job.name}.png")
        except FigureSkipped as reason:
            skipped.setdefault(str(reason), []).append(job)
        else:
            for one in job.shown:
                images[one][job.name] = path
    for (run, part), paths in images.items():
        show_in_tensorboard(folders[run, part], paths, run.last.step)
    written = dict.fromkeys(path for paths in images.values() for path in paths.values())
    return list(written), [_left_out(jobs, parts, reason) for reason, jobs in skipped.items()]


class _Job(NamedTuple):
    """A figure to draw.

    Args:
        name: of the file.
        draw: it.
        folder: of the file.
        shown: in the TensorBoard of which parts of which runs.
    """

    name: str
    draw: Callable[[], Figure]
    folder: Path
    shown: Sequence[tuple[Run, str]]


def _left_out(jobs: Sequence[_Job], parts: Sequence[tuple[Run, str]], reason: str) -> str:
    """Say which figures were not drawn, of which runs and parts where others have them, and why."""
    names = ", ".join(dict.fromkeys(job.name for job in jobs))
    own = {one for job in jobs for one in job.shown}
    shown = ", ".join(f"{run.folder} {part}".rstrip() for run, part in parts if (run, part) in own)
    return f"{names}{f' of {shown}' if own != set(parts) else ''}: {reason}"


def _of_parts(folders: Mapping[tuple[Run, str], Path]) -> Iterator[_Job]:
    for (run, part), folder in folders.items():
        for draw_one in (recovery_by_frequency, best_cosines, cosine_to_start, training):
            yield _Job(draw_one.__name__, partial(draw_one, run, part), folder, [(run, part)])
        if not part and is_of_meta_sae(run):
            yield _Job(meta_latents.__name__, partial(meta_latents, run), folder, [(run, part)])


def _of_experiments(runs: Sequence[Run], out: Path) -> Iterator[_Job]:
    experiments = experiments_of(runs)
    for own in experiments:
        yield _Job(headlines.__name__, partial(headlines, own), own.runs[0].folder / FOLDER, _parts_of_all([own]))
    everything = _parts_of_all(experiments)
    yield _Job(explained_variance_vs_recovery.__name__, partial(explained_variance_vs_recovery, runs), out, everything)
    for sweep in SWEEPS:
        groups = sweep.groups(experiments)
        for group in groups:
            folder = out if len(groups) == 1 else group[0].runs[0].folder / FOLDER
            yield _Job(sweep.name, partial(sweep.draw, group), folder, _parts_of_all(group))
        if not groups:
            yield _Job(sweep.name, partial(_skip, f"it needs {sweep.needs}"), out, everything)


def _skip(needs: str) -> Figure:
    raise FigureSkipped(needs)


def _parts_of_all(experiments: Sequence[Experiment]) -> list[tuple[Run, str]]:
    runs = [run for experiment in experiments for joined in experiment.runs for run in joined.separate]
    return [(run, part) for run in runs for part in parts_of(run)]


def parts_of(run: Run) -> list[str]:
    """Return the parts that a run has figures of: hooks, or the unnamed one, and nulls."""
    return sorted({tag.part for tag in run.last.values}) or [""]


def recovery_by_frequency(run: Run, part: str = "") -> Figure:
    """Draw the share of features recovered, and their mean best cosine, over the firing probability."""
    charts = by_frequency_charts(read_truth(run, part), run.last.samples)
    title = f"Features recovered (best cosine above {THRESHOLD:g}), by how often they fire"
    return figure_of(charts, f"{title}\n{_subtitle(run, part)}; bars: 95% interval (Wilson)", share_x=True)


def best_cosines(run: Run, part: str = "") -> Figure:
    """Draw the distribution over features of the best cosine."""
    chart = best_cosines_chart(read_truth(run, part))
    return figure_of([chart], f"{chart.title}\n{_subtitle(run, part)}")


def cosine_to_start(run: Run, part: str = "") -> Figure:
    """Draw the distribution over latents of the cosine of their directions to where they started."""
    charts = cosine_charts(run, part)
    title = "How far did the directions of latents move from their random start?"
    return figure_of(charts, f"{title}\n{_subtitle(run, part)}", share_x=True)


def meta_latents(run: Run) -> Figure:
    """Draw the meta-latents of one latent, and other latents that have them."""
    graph = meta_graph(run)
    told = f"{run.title}: cosine {graph.cosine:.2f} of latent {graph.latent} to the sum of its meta-latents"
    return figure_of([graph], f"{graph.title}\n{told}, of which the largest are shown")


def training(run: Run, part: str = "") -> Figure:
    """Draw what is learned, and how far the dictionary moves for it, over training samples."""
    charts = training_charts(run, part, _TRAINING)
    if not charts:
        raise FigureSkipped(f"none of {', '.join(_TRAINING)} was measured")
    if all(len(series.x) < 2 for chart in charts for series in chart.series):
        raise FigureSkipped("it needs two validations: set trainer.val_check_interval below 1")
    title, subtitle = f"What {a_noun()} learns, and how far its dictionary moves for it", _subtitle(run, part)
    bands = "" if subtitle.endswith("1 seed") else "; bands: least to greatest"
    return figure_of(charts, f"{title}\n{subtitle}{bands}", columns=2)


def explained_variance_vs_recovery(runs: Sequence[Run]) -> Figure:
    """Draw a point for each run, policy and seed: does an SAE that explains more recover more?"""
    both = (Tag("explained_variance"), Tag(RECOVERY))
    runs = [run for run in runs if all(run.last.values.get(tag) for tag in both)]
    if not runs:
        raise FigureSkipped(
            f"no run has measured both explained_variance and {RECOVERY}, as the callback Recovery does"
        )
    charts = explained_variance_vs_recovery_charts(runs)
    names = short_names([run.folder for run in runs]).values() if len(runs) > 1 else ()
    shown = f"{len(runs)} runs, numbered" if len(runs) > 1 else runs[0].title
    title = f"Does {a_noun()} that explains more recover more?\n{shown}: a point for each policy and seed"
    return figure_of(charts, title, numbered=names, share_x=True)


def _subtitle(run: Run, part: str) -> str:
    values = [members for tag, members in run.last.values.items() if tag.part == part]
    n_seeds = max((len({member.seed for member in members}) for members in values), default=1)
    return f"{run.title}{f', {part}' if part else ''}: " + ("1 seed" if n_seeds == 1 else f"mean over {n_seeds} seeds")
