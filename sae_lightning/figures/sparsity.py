"""Explained variance against the number of active latents, and how often latents fire."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from sae_lightning.figures.histogram import Histogram, share_series
from sae_lightning.figures.lines import Series
from sae_lightning.figures.scatter import Scatter
from sae_lightning.members import Tag, in_order, policy_order
from sae_lightning.runs import Run

_FREQUENCY = "firing_frequency"
_FREQUENCY_BIN = 0.25
_LEAST_FREQUENCY = -6.0
"""Power of ten of the least frequency that has a bin of its own."""


def sparsity_chart(run: Run, part: str) -> Scatter | None:
    """Draw explained variance against l0, a point for each seed; None if the run has not measured both.

    Both axes begin at 0, so that SAEs with the same number of active latents stand over each other.
    """
    l0, tag = run.last.values.get(Tag("l0", part), {}), Tag("explained_variance", part)
    points: dict[str, list[tuple[float, float]]] = {}
    for member, explained in run.last.values.get(tag, {}).items():
        active = l0.get(member)
        if explained is not None and active is not None:
            points.setdefault(member.policy, []).append((active, explained))
    if not points:
        return None
    series = [Series(name, [x for x, _ in points[name]], [y for _, y in points[name]]) for name in in_order(points)]
    title = "Explained variance against l0" + (f" ({part})" if part else "")
    x, y = "active latents a sample (l0)", "explained variance"
    return Scatter(title, x, y, series, name=str(tag), x_includes=(0.0,), y_includes=(0.0,))


def frequency_chart(run: Run, part: str) -> Histogram | None:
    """Draw how often latents fire: of all seeds where it was measured of single latents, else as TensorBoard keeps it.

    Returns:
        The chart; None where the run has neither.
    """
    measured = run.measurements.latents.get(_FREQUENCY)
    values: dict[str, list[np.ndarray]] = {}
    for member, own in (measured.members if measured else {}).items():
        if member.part == part and (own > 0).any():
            values.setdefault(member.policy, []).append(np.log10(own[own > 0]))
    edges = np.arange(_LEAST_FREQUENCY, _FREQUENCY_BIN / 2, _FREQUENCY_BIN)
    if values:
        together = {policy: np.concatenate(own) for policy, own in values.items()}
        # Bins begin where a latent fires once. Else some would lie between one firing and two, and be empty.
        edges = edges_from(min(own.min() for own in together.values()))
        series = share_series(together, edges)
        note = "All seeds; latents that never fired are left out."
    else:
        series = read_histograms(run.folder, Tag(f"log10_{_FREQUENCY}", part), edges)
        note = "First seed, from the bins that TensorBoard keeps; latents that never fired are left out."
    if not series:
        return None
    least = min(x for own in series for x, y in zip(own.x, own.y, strict=True) if y) - _FREQUENCY_BIN / 2
    title = "How often latents fire" + (f" ({part})" if part else "")
    first = int(np.searchsorted(edges, least - 1e-9))
    series = [replace(own, x=[10**x for x in own.x[first:]], y=own.y[first:]) for own in series]
    about = f"latents in bins of a factor of {10**_FREQUENCY_BIN:.2g}"
    x, edges = "firing frequency", 10 ** edges[first:]
    return Histogram(title, x, "share of latents", series, edges, note=note, about=about, percent=True, log_x=True)


def edges_from(least: float) -> Float[np.ndarray, " n_edges"]:
    """Return edges of bins from a power of ten, or the least that has a bin of its own, to 1 or a little above."""
    begin = max(least - 1e-6, _LEAST_FREQUENCY)  # a value on an edge is in the bin above it
    return begin + _FREQUENCY_BIN * np.arange(max(1, np.ceil(-begin / _FREQUENCY_BIN)) + 1)


def read_histograms(run: Path, tag: Tag, edges: Float[np.ndarray, " n_edges"]) -> list[Series]:
    """Read the last histogram of the first seed of each policy into bins that are the same for all.

    The bins of TensorBoard are 10 % wide, so those near 0 have nearly no width: their density says nothing.

    Args:
        run: the run folder.
        tag: of the histogram, such as `log10_firing_frequency`.
        edges: of the bins.

    Returns:
        Middles of the bins and the share of latents in them; none where the run has no such histogram.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    series: dict[str, Series] = {}
    middles = (edges[:-1] + np.diff(edges) / 2).tolist()
    for folder in sorted(run.glob("*-*/")):
        policy, _, seed = folder.name.rpartition("-")
        if policy in series or not seed.isdigit() or not any(folder.glob("events.out.tfevents.*")):
            continue
        events = EventAccumulator(str(folder), size_guidance={"histograms": 0, "scalars": 1})
        events.Reload()
        if f"val/{tag}" not in events.Tags()["histograms"]:
            continue
        last = events.Histograms(f"val/{tag}")[-1].histogram_value
        counts, limits = np.array(last.bucket[1:]), np.array(last.bucket_limit)
        if len(counts) and counts.sum():
            # The latents of a bin lie evenly in it: how many are below an edge is linear between its limits.
            below = np.interp(edges, limits, np.concatenate([[0.0], counts.cumsum()]))
            below[0], below[-1] = 0, counts.sum()
            series[policy] = Series(policy, middles, (np.diff(below) / counts.sum()).tolist())
    return [series[policy] for policy in sorted(series, key=policy_order)]
