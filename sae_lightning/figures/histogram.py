"""`Histogram`: shares of values in bins, drawn as lines through the middles of the bins."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from typing_extensions import override

from sae_lightning.figures.lines import Lines, Series
from sae_lightning.figures.look import SHADE
from sae_lightning.members import Style, in_order


@dataclass(frozen=True)
class Histogram(Lines):
    """Shares of values in bins.

    Args:
        edges: those of the bins.
        behind: shares to compare with, drawn as an area behind the others; None for none.
        behind_label: what they are.
    """

    most_marks: ClassVar[int] = 1000  # a value between empty bins is its mark alone
    least_share: ClassVar[float] = 0.001  # many bins share the values, and none need have many

    edges: Float[np.ndarray, " n_edges"]
    behind: Float[np.ndarray, " n_bins"] | None = field(default=None, kw_only=True)
    behind_label: str = field(default="", kw_only=True)

    @override
    def draw(self, axes: Axes, styles: Mapping[str, Style]) -> None:
        if self.behind is not None:
            axes.stairs(self.behind, self.edges, fill=True, color=SHADE, label=self.behind_label)
        super().draw(axes, styles)


def shares(values: Float[np.ndarray, "..."], edges: Float[np.ndarray, " n_edges"]) -> Float[np.ndarray, " n_bins"]:
    """Return the share of all values in each bin; those beyond the edges count in the first or last.

    >>> shares(np.array([0.2, 0.3, 0.7, 1.0000001]), np.array([0.0, 0.5, 1.0]))
    array([0.5, 0.5])
    """
    return np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / values.size


def share_series(values: Mapping[str, Float[np.ndarray, "..."]], edges: Float[np.ndarray, " n_edges"]) -> list[Series]:
    """Return a series for each policy, at the middles of the bins."""
    middles = (edges[:-1] + np.diff(edges) / 2).tolist()
    return [Series(policy, middles, shares(values[policy], edges).tolist()) for policy in in_order(values)]
