"""How charts look: one set of colours and one style sheet for the page and for files.

A file shows the colours below as they are. On the page each becomes the CSS custom property of its name, which the
page sets for light, dark and print. Colours of policies are in `members.py`.
"""

import math
from collections.abc import Collection, Iterable
from typing import Any, Final

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from sae_lightning.members import TRAINED, Style, policy_styles

INK: Final = "#000000"
PAPER: Final = "#ffffff"
MUTED: Final = "#666666"
LINE: Final = "#e5e5e5"
SHADE: Final = "#d9d9d9"
_COLOURED = (TRAINED, "frozen_decoder", "soft_frozen_decoder", "frozen_encoder", "untrained")
CSS_PROPERTIES = {INK: "ink", PAPER: "paper", MUTED: "muted", LINE: "line", SHADE: "line"}
CSS_PROPERTIES |= {style.colour.lower(): name.replace("_", "-") for name, style in policy_styles(_COLOURED).items()}
CSS_PROPERTIES |= {"#56b4e9": "sky", "#9a8700": "yellow", "#999999": "other"}
"""Names of the custom properties by colour."""

MARKER_CHARACTERS = {
    "o": "●", "s": "■", "^": "▲", "D": "◆", "<": "◀", "v": "▼", "p": "⬟", "*": "★", "P": "✚", "X": "✖", "h": "⬢",
    "x": "×", "|": "❘", "": "╌",
}  # fmt: skip
"""Characters that look like the markers, for legends and lists in text."""

CHANCE = Style(MUTED, "", (0, (6, 3)))
"""What chance comes to, or an SAE that does nothing."""
REFERENCE = Style(MUTED, "o", "none")
"""Style of reference methods."""

_DIGIT = 7
"""Height of a number that stands for a mark, in points."""

LOOK: dict[str, Any] = {
    "text.parse_math": False,  # a $ in a name is a $
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "grid.color": LINE,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.markersize": 6,
    "lines.markeredgewidth": 0.6,  # of the colour of the paper, where marks overlap
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "legend.columnspacing": 1.2,
    "legend.labelspacing": 0.3,
    "legend.borderpad": 0.1,
}


def add_legend(
    figure: Figure,
    axes: Iterable[Axes],
    columns: int,
    characters: int,
    numbered: Iterable[str] = (),
    left_out: Collection[str] = (),
) -> int:
    """Put what the axes have labels for under the figure, each once, and then the names of numbers.

    Args:
        figure: of the axes.
        axes: one or more.
        columns: at most.
        characters: that fit side by side.
        numbered: names of 1, 2, ...
        left_out: labels that are explained elsewhere.

    Returns:
        How many rows the legend has.
    """
    handles: dict[str, Artist] = {}
    for own in axes:
        handles |= {label: handle for handle, label in zip(*own.get_legend_handles_labels(), strict=True)}
    for number, name in enumerate(numbered, 1):
        marker = _written(number)
        half_width, half_height = np.abs(np.asarray(marker.vertices)).max(0)
        size = _DIGIT * max(half_width / half_height, 1.0)  # a mark is scaled by its longer side
        handles[name] = Line2D([], [], linestyle="none", marker=marker, markersize=size, color=INK)
    handles = {label: handle for label, handle in handles.items() if label not in left_out}
    if not handles:
        return 0
    columns = max(1, min(columns, characters // (max(map(len, handles)) + 6)))
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns)
    return math.ceil(len(handles) / columns)


def _written(number: int) -> Path:
    """Return a number as a marker; one between dollars would be mathematics, which `LOOK` takes for text."""
    path = TextPath((0, 0), str(number), size=10)
    centre = path.get_extents().get_points().mean(0)
    return Path(path.vertices - centre, path.codes)
