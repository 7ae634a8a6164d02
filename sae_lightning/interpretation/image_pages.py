"""Pages of images: the latents of one SAE, and those of several side by side."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from sae_lightning.interpretation.image_examples import (
    PERCENTILES,
    ImageExample,
    ShownLatent,
    is_patch_strongest,
)
from sae_lightning.members import Member, policy_title

_UNITS_PER_INCH, _DPI = 96, 144
_SIDE, _GAP, _BETWEEN, _MARGIN, _LABEL = 88, 4, 22, 28, 148
_INK, _MUTED, _LINE, _HEAT = "#1a1a1a", "#6b6b6b", "#dddddd", "#D55E00"
_OF_ACTIVATION = "Under each image how strongly the latent fires."
_OF_HEAT = (
    "Under each image the patches where the latent fires, in full colour where as strongly as the number says "
    "(class: that is at the class token)."
)
_COMPARED = 6
"""Latents of each SAE on the page of all."""

Thumbnails = Mapping[int, np.ndarray]
"""Images [height, width, 3] from 0 to 255, by number."""


def member_page(latents: Sequence[ShownLatent], thumbnails: Thumbnails, caption: str) -> np.ndarray:
    """Draw the latents of one SAE, a row each: its images at each percentile, and where in them it fires.

    Args:
        latents: of one member.
        thumbnails: of all their examples.
        caption: of the data, under the title.

    Returns:
        [height, width, 3] from 0 to 255.
    """
    n_each = max((len(latent.at(percentile)) for latent in latents for percentile in PERCENTILES), default=1)
    has_heat = any(example.heat is not None for latent in latents for example in latent.examples)
    column = n_each * (_SIDE + _GAP) - _GAP
    row = (_SIDE + _GAP) * (2 if has_heat else 1) + 40
    width = 2 * _MARGIN + _LABEL + len(PERCENTILES) * column + (len(PERCENTILES) - 1) * _BETWEEN
    top = 132
    with _page(width, top + row * len(latents) + 4) as page:
        page.title(_title(latents[0].member), f"{caption} {_OF_HEAT if has_heat else _OF_ACTIVATION}")
        lefts = [_MARGIN + _LABEL + i * (column + _BETWEEN) for i in range(len(PERCENTILES))]
        for left, percentile in zip(lefts, PERCENTILES, strict=True):
            page.text(left, top - 16, _percentile(percentile), 8.5, weight="bold")
        for i, latent in enumerate(latents):
            y = top + i * row
            page.rule(y - 8)
            page.text(_MARGIN, y + 14, f"latent {latent.number}", 10.5, weight="bold")
            page.text(_MARGIN, y + 34, f"fires on {_percent(latent.frequency)}", 8.0, _MUTED)
            page.text(_MARGIN, y + 48, "of positions,", 8.0, _MUTED)
            page.text(_MARGIN, y + 62, f"in {_percent(latent.share)} of images", 8.0, _MUTED)
            for left, percentile in zip(lefts, PERCENTILES, strict=True):
                for j, example in enumerate(latent.at(percentile)):
                    x = left + j * (_SIDE + _GAP)
                    page.image(x, y, thumbnails[example.image])
                    below = y + _SIDE + _GAP
                    if example.heat is not None:
                        page.image(x, below, with_heat(thumbnails[example.image], example))
                        below += _SIDE + _GAP
                    elsewhere = "" if example.heat is None or is_patch_strongest(example) else " (class)"
                    page.text(x, below + 9, f"{example.activation:.2f}{elsewhere}", 7.5, _MUTED)
        return page.pixels()


def compared_page(members: Sequence[Sequence[ShownLatent]], thumbnails: Thumbnails, caption: str) -> np.ndarray:
    """Draw several SAEs under each other, a few latents of each: one image at each percentile.

    Args:
        members: latents of each, not empty.
        thumbnails: of all their examples.
        caption: of the data, under the title.

    Returns:
        [height, width, 3] from 0 to 255.
    """
    n = min(_COMPARED, max(map(len, members)))
    block, row, top = 2 * _SIDE + _GAP, 2 * _SIDE + _GAP + 56, 120
    width = max(2 * _MARGIN + _LABEL + n * (block + _BETWEEN) - _BETWEEN, 760)
    order = ", ".join(map(str, PERCENTILES))
    with _page(width, top + row * len(members)) as page:
        page.title("Latents side by side", f"{caption} In each block: percentiles {order} of the activation.")
        for i, latents in enumerate(members):
            y = top + i * row
            page.rule(y - 14)
            member = latents[0].member
            lines = _lines(policy_title(member.policy))
            for k, line in enumerate(lines):
                page.text(_MARGIN, y + 14 + 17 * k, line, 10.5, weight="bold")
            page.text(_MARGIN, y + 20 + 17 * len(lines), f"seed {member.seed}", 8.0, _MUTED)
            for j, latent in enumerate(latents[:n]):
                x = _MARGIN + _LABEL + j * (block + _BETWEEN)
                for k, percentile in enumerate(PERCENTILES):
                    for example in latent.at(percentile)[:1]:
                        place = x + k % 2 * (_SIDE + _GAP), y + k // 2 * (_SIDE + _GAP)
                        page.image(*place, thumbnails[example.image])
                page.text(
                    x, y + block + 12, f"latent {latent.number}, fires on {_percent(latent.frequency)}", 8.0, _MUTED
                )
        return page.pixels()


def with_heat(thumbnail: np.ndarray, example: ImageExample) -> np.ndarray:
    """Fade an image, and colour the patches where the latent fires, fully where it does so as the label says."""
    assert example.heat is not None
    height, width = thumbnail.shape[:2]
    heat = (example.heat / max(example.activation, 1e-12)).clamp(0, 1).numpy()
    rows, columns = (np.arange(size) * n // size for size, n in zip((height, width), heat.shape, strict=True))
    alpha = 0.85 * heat[rows][:, columns, None]
    grey = thumbnail.mean(2, keepdims=True).repeat(3, 2) / 255 * 0.6 + 0.4
    return ((1 - alpha) * grey + alpha * np.array(to_rgb(_HEAT))) * 255


# How a page is laid out, in units of 1/96 inch from the upper left corner
# ----------------------------------------------------------------------------------------------------------------------


class _Page:
    """Images on a canvas of pixels, since drawing hundreds of them takes seconds; then text on top of it."""

    def __init__(self, width: int, height: int) -> None:
        self.figure = Figure((width / _UNITS_PER_INCH, height / _UNITS_PER_INCH), _DPI, facecolor="white")
        self.agg, self.width = FigureCanvasAgg(self.figure), width
        self.axes: Axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(height, 0))
        self.axes.set_axis_off()
        self.canvas = np.full(
            (height * _DPI // _UNITS_PER_INCH, width * _DPI // _UNITS_PER_INCH, 3), 255, dtype=np.uint8
        )

    def title(self, title: str, caption: str) -> None:
        self.text(_MARGIN, _MARGIN + 14, title, 15.0, weight="bold")
        self.text(_MARGIN, _MARGIN + 38, caption, 8.5, _MUTED)

    def text(self, x: int, y: int, text: str, size: float, colour: str = _INK, **settings: Any) -> None:
        self.axes.text(x, y, text, fontsize=size, color=colour, va="baseline", parse_math=False, **settings)

    def rule(self, y: int) -> None:
        self.axes.plot([_MARGIN, self.width - _MARGIN], [y, y], color=_LINE, linewidth=0.8)

    def image(self, x: int, y: int, pixels: np.ndarray) -> None:
        left, top, side = map(_dots, (x, y, _SIDE))
        image = Image.fromarray(pixels.astype(np.uint8)).resize((side, side), Image.Resampling.BILINEAR)
        self.canvas[top : top + side, left : left + side] = np.asarray(image)

    def pixels(self) -> np.ndarray:
        self.agg.draw()
        text = np.asarray(self.agg.buffer_rgba())[..., :3]
        height, width = (min(sizes) for sizes in zip(text.shape[:2], self.canvas.shape[:2], strict=True))
        return np.minimum(text[:height, :width], self.canvas[:height, :width])  # the darker, both are on white


def _dots(units: int) -> int:
    return units * _DPI // _UNITS_PER_INCH


@contextmanager
def _page(width: int, height: int) -> Iterator[_Page]:
    with rc_context({"font.family": "sans-serif", "path.simplify": True}):
        yield _Page(width, height)


def _title(member: Member) -> str:
    part = f", {member.part}" if member.part else ""
    return f"{policy_title(member.policy)}, seed {member.seed}{part}"


def _percentile(percentile: int) -> str:
    return "strongest" if percentile == max(PERCENTILES) else f"percentile {percentile}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def _lines(words: str) -> list[str]:
    """Break what is too long for a line into two, before its last word."""
    first, _, last = words.rpartition(" ")
    return [words] if len(words) <= 16 or not first else [first, last]
