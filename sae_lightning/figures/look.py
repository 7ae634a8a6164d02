"""How it looks: a style for each policy, the same in every figure."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import cycle
from typing import Any


@dataclass(frozen=True)
class Style:
    """How a policy is drawn in every figure: told apart by colour, and without it by marker and line.

    Args:
        colour: of lines and markers.
        marker: at each value.
        line: between them.
    """

    colour: str
    marker: str
    line: Any


# The palette of Okabe and Ito (2008), which colour-blind readers can tell apart.
STYLES = {
    "trained": Style("#0072B2", "o", "-"),
    "soft_frozen_decoder": Style("#009E73", "^", "-."),
    "frozen_decoder": Style("#D55E00", "s", "--"),
    "frozen_encoder": Style("#CC79A7", "D", ":"),
    "untrained": Style("#E69F00", "v", (0, (5, 1, 1, 1, 1, 1))),
    "oracle": Style("#000000", "p", (0, (1, 1))),
}
OTHERS = [
    Style(colour, marker, line)
    for marker, line in (("P", "-"), ("X", "--"), ("h", ":"))
    for colour in ("#56B4E9", "#F0E442")
]
REFERENCE = Style("0.25", "o", "none")
CHANCE: dict[str, Any] = {"color": "0.45", "linestyle": (0, (6, 3)), "linewidth": 1.2}
CHANCE_LABEL = "chance: random dictionary"

WIDTH = 8.0
LEGEND_CHARACTERS = 90
"""What fits side by side in that width, marks included."""
LOOK = {
    "figure.dpi": 150,  # 1200 pixels wide
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "figure.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "axes.axisbelow": True,
    "lines.markersize": 6,
    "lines.markeredgewidth": 0.6,  # white, where marks overlap
    "lines.linewidth": 1.5,
    "legend.frameon": False,
}


def styles(policies: Iterable[str]) -> dict[str, Style]:
    """A style for each policy, in the order in which they are drawn: those of the paper first."""
    names = set(policies)
    known = {name: style for name, style in STYLES.items() if name in names}
    return known | dict(zip(sorted(names - set(STYLES)), cycle(OTHERS), strict=False))
