"""Draw the figures of runs as PNG files, and show them in TensorBoard."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import style as matplotlib_style
from matplotlib.figure import Figure
from matplotlib.image import imread
from torch.utils.tensorboard import SummaryWriter

from sae_lightning.figures.drawn import (
    best_cosines,
    explained_variance_vs_recovery,
    recovery_by_frequency,
    training,
)
from sae_lightning.figures.look import LOOK, styles
from sae_lightning.figures.runs import LeftOut, Run


def draw(runs: Sequence[Run], out: Path) -> tuple[list[Path], list[str]]:
    """Draw every figure for which the runs have what it needs.

    Args:
        runs: one or more.
        out: folder of the figure of all runs; those of one run lie in its folder.

    Returns:
        The files written, and a line on each figure that was not drawn.
    """
    style = styles(policy for run in runs for policy in run.policies)
    jobs: list[tuple[Callable[..., Figure], Any, Path, Sequence[Run]]] = [
        (make_figure, run, run.figures, [run])
        for run in runs
        for make_figure in (recovery_by_frequency, best_cosines, training)
    ]
    jobs.append((explained_variance_vs_recovery, runs, out, runs))
    images: dict[Path, dict[str, Path]] = {run.figures: {} for run in runs}
    left_out = []
    for make_figure, argument, folder, shown in jobs:
        name = make_figure.__name__
        try:
            with matplotlib_style.context(["default", LOOK]):
                figure = make_figure(argument, style)
                folder.mkdir(parents=True, exist_ok=True)
                figure.savefig(folder / f"{name}.png")
        except LeftOut as reason:
            left_out.append(f"{name} of {', '.join(f'{run.folder} {run.part}'.rstrip() for run in shown)}: {reason}")
        else:
            for run in shown:
                images[run.figures][name] = folder / f"{name}.png"
    for run in runs:
        into_tensorboard(run, images[run.figures])
    return list(dict.fromkeys(path for paths in images.values() for path in paths.values())), left_out


def into_tensorboard(run: Run, images: Mapping[str, Path]) -> None:
    """Show images beside the curves of a run, in place of those that were drawn before."""
    folder = run.figures
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    if images:
        with SummaryWriter(str(folder)) as writer:
            for name, path in images.items():
                writer.add_image(name, imread(path), run.lines[-1]["step"], dataformats="HWC")
