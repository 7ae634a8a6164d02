"""``sae figures``: what the sanity check found, drawn from the folders of finished runs.

- recovery_by_frequency: which features are recovered, and how often do those fire?
- best_cosines: how near is the nearest decoder direction to each feature?
- training: explained variance, recovery and the cosine to the start, over the samples of the training.
- explained_variance_vs_recovery: does an SAE that explains more recover more? All runs in one figure.

Each is written as PNG and into TensorBoard. The first two need data with known features, and the last their recovery.
"""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
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
from sae_lightning.figures.runs import FOLDER, LeftOut, Run, read


def main(args: list[str]) -> None:
    """Draw, and print the paths that were written."""
    parser = ArgumentParser(prog="sae figures", description=__doc__, exit_on_error=False)
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, lightning_logs/<name>/version_N")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="for the figure of all runs; default: figures/ of the first run"
    )
    options = parser.parse_args(args[1:])
    out = options.out or options.runs[0] / FOLDER
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; give a folder, which is made if needed")
    folders = {folder.resolve(): folder for folder in options.runs}.values()
    runs = [run for folder in folders for run in read(folder)]
    written, left_out = draw(runs, out)
    if not written:
        raise ValueError("nothing to draw: " + "; ".join(left_out))
    for line in left_out:
        print(f"left out {line}", file=sys.stderr)
    print(*written, sep="\n")


def draw(runs: Sequence[Run], out: Path) -> tuple[list[Path], list[str]]:
    """Draw what the runs have what it needs for.

    Args:
        runs: one or more.
        out: folder of the figure of all runs; those of one run lie in its folder.

    Returns:
        The files written, and a line on each figure that was not drawn.
    """
    style = styles(policy for run in runs for policy in run.policies)
    jobs: list[tuple[Callable[..., Figure], Any, Path, Sequence[Run]]] = [
        (figure_of, run, run.figures, [run])
        for run in runs
        for figure_of in (recovery_by_frequency, best_cosines, training)
    ]
    jobs.append((explained_variance_vs_recovery, runs, out, runs))
    images: dict[Path, dict[str, Path]] = {run.figures: {} for run in runs}
    left_out = []
    for figure_of, shown, folder, of in jobs:
        name = figure_of.__name__
        try:
            with matplotlib_style.context(["default", LOOK]):
                figure = figure_of(shown, style)
                folder.mkdir(parents=True, exist_ok=True)
                figure.savefig(folder / f"{name}.png")
        except LeftOut as why:
            left_out.append(f"{name} of {', '.join(f'{run.folder} {run.part}'.rstrip() for run in of)}: {why}")
        else:
            for run in of:
                images[run.figures][name] = folder / f"{name}.png"
    for run in runs:
        into_tensorboard(run, images[run.figures])
    return list(dict.fromkeys(path for of in images.values() for path in of.values())), left_out


def into_tensorboard(run: Run, images: Mapping[str, Path]) -> None:
    """Show images beside the curves of a run, in place of those that were drawn before."""
    folder = run.figures
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    if images:
        with SummaryWriter(str(folder)) as writer:
            for name, path in images.items():
                writer.add_image(name, imread(path), run.lines[-1]["step"], dataformats="HWC")
