"""Charts as PNG files: one or more in a figure, with a common legend. TensorBoard shows the files."""

import io
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import style as matplotlib_style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from PIL import Image

from sae_lightning.figures.chart import Chart
from sae_lightning.figures.dots import Dots
from sae_lightning.figures.lines import Lines
from sae_lightning.figures.look import LOOK, add_legend
from sae_lightning.members import policy_styles

WIDTH = 8.0
"""Inches of a figure."""
_WIDE = 10.0
"""Inches of one with names between its charts."""
_NARROW = 3
"""From so many charts side by side on there is no room for names or many numbers."""
_GROUP = "plots"
_LOOK = LOOK | {"figure.dpi": 150, "font.size": 9.5, "axes.titlesize": 9.5, "figure.titlesize": 11}  # 1200 pixels wide
CHARACTERS = 90
"""Characters of a legend, marks included, or of a title that fit side by side in that width."""


def figure_of(
    charts: Sequence[Chart],
    title: str,
    columns: int = 1,
    numbered: Iterable[str] = (),
    share_x: bool = False,
    share_y: bool = False,
) -> Figure:
    """Draw charts beside and under each other.

    Args:
        charts: one or more.
        title: of the figure.
        columns: charts side by side.
        numbered: names of what `Scatter.numbers` number.
        share_x: charts under each other have the same x axis.
        share_y: charts side by side have the same y axis.
    """
    columns = min(columns, len(charts))
    grid = [charts[begin : begin + columns] for begin in range(0, len(charts), columns)]
    scale = 1.3 if columns == 1 and len(charts) == 1 else 1.0
    heights = [scale * max(chart.height for chart in row) / 72 for row in grid]
    styles = policy_styles(policy for chart in charts for policy in chart.policies)
    has_names = columns < _NARROW and all(type(chart) is Lines and chart.ends_at_right for chart in charts)
    if has_names:  # a reader need not look for a line in a legend
        charts = [replace(chart, names_beside=True) for chart in charts if isinstance(chart, Lines)]
    with _look():
        figure = Figure()
        axes = figure.subplots(
            len(grid),
            columns,
            height_ratios=heights,
            squeeze=False,
            sharex=share_x,
            sharey="row" if share_y else False,
        ).ravel()
        for place, (chart, own) in enumerate(zip(charts, axes, strict=False)):
            chart.draw(own, styles)
            if columns >= _NARROW and own.get_xscale() == "linear":
                own.locator_params(axis="x", nbins=3)
            if chart.title not in title:
                own.set_title(textwrap.fill(chart.title, CHARACTERS // columns), loc=chart.title_at)
            if share_x and place + columns < len(charts):
                own.set_xlabel("")
            if share_y and place % columns:
                own.set_ylabel("")
        for row, own in zip(grid, axes.reshape(len(grid), columns), strict=True):
            _align_rows(row, own)
        for empty in axes[len(charts) :]:
            empty.remove()
        lines = [part for line in title.splitlines() for part in textwrap.wrap(line, CHARACTERS)]
        figure.suptitle("\n".join(lines))
        beside = [name for chart in charts if isinstance(chart, Lines) for name in chart.beside]
        n_rows = add_legend(figure, axes[: len(charts)], 3, CHARACTERS, numbered, beside)
        figure.set_size_inches(
            _WIDE if has_names and columns > 1 else WIDTH, 0.2 + 0.2 * len(lines) + sum(heights) + 0.2 * n_rows
        )
    return figure


def _align_rows(charts: Sequence[Chart], axes: Iterable[Axes]) -> None:
    """Give rows of dots the same height in charts side by side, however many each has."""
    dots = [(len(chart.rows), own) for chart, own in zip(charts, axes, strict=False) if isinstance(chart, Dots)]
    for _, own in dots:
        own.set_ylim(max(n for n, _ in dots) - 0.5, -0.5)


def write(figure: Figure, path: Path) -> Path:
    """Write a PNG file of few colours, with the folders to it, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _look():
        figure.savefig(path)
    with Image.open(path) as image:
        few = in_few_colours(image)
    few.save(path, optimize=True)
    return path


def in_few_colours(image: Image.Image) -> Image.Image:
    """Return an image in at most 128 colours: its file is a third as large, and edges alone hardly differ.

    They are the most frequent ones, as they are, and others that cover what is rare and far from these, such as a thin
    line.
    """
    image = image.convert("RGB")
    covering = image.quantize(96, Image.Quantize.MAXCOVERAGE).getpalette() or []
    rgb = np.asarray(image).astype(np.int64)
    packed, place, counts = np.unique(rgb @ (1 << 16, 1 << 8, 1), return_inverse=True, return_counts=True)
    colours = packed[:, None] >> np.array([16, 8, 0]) & 255
    chosen = np.concatenate(
        [colours[counts.argsort()[::-1][:32]], np.reshape(covering[: 3 * 96], (-1, 3)).astype(np.int64)]
    )
    nearest = np.square(colours[:, None] - chosen).sum(2).argmin(1)
    few = Image.fromarray(nearest[place].reshape(rgb.shape[:2]).astype(np.uint8), "P")
    few.putpalette(chosen.astype(np.uint8).ravel().tolist())
    return few


def pixels(figure: Figure) -> Float[np.ndarray, "height width 4"]:
    """Return a figure as an image."""
    file = io.BytesIO()
    with _look():
        figure.savefig(file, format="png")
    file.seek(0)
    return imread(file)


def show_in_tensorboard(folder: Path, images: Mapping[str, Path], step: int | None = None) -> None:
    """Show PNG files in TensorBoard, in place of those that the folder has shown before.

    Their group stands behind that of what people look at first (`sae_lightning.loggers`): groups are in the order of
    the alphabet.

    Args:
        folder: of the TensorBoard file.
        images: by name.
        step: optimizer step.
    """
    from torch.utils.tensorboard import SummaryWriter

    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    if images:
        with SummaryWriter(str(folder)) as writer:
            for name, path in images.items():
                writer.add_image(f"{_GROUP}/{name}", imread(path), step, dataformats="HWC")


@contextmanager
def _look() -> Iterator[None]:
    look: list[Any] = ["default", _LOOK]
    with matplotlib_style.context(look):
        yield
