"""Explained variance against the number of active latents, and distributions over latents."""

from pathlib import Path

import numpy as np

from sae_lightning.figures.lines import Lines, Series
from sae_lightning.figures.scatter import Scatter
from sae_lightning.members import Tag, in_order, policy_order
from sae_lightning.runs import Run

_DISTRIBUTIONS = {
    "log10_firing_frequency": ("How often latents fire", "firing frequency, as a power of ten"),
    "cosine_to_start": ("How far decoder directions moved", "cosine of a direction to its start"),
}
"""Histograms in TensorBoard: title and x axis."""


def sparsity_chart(run: Run, part: str) -> Scatter | None:
    """Draw explained variance against l0, a point for each seed; None if the run has not measured both."""
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
    return Scatter(title, "active latents a sample (l0)", "explained variance", series, name=str(tag))


def distribution_charts(run: Run, part: str) -> list[Lines]:
    """Draw distributions over latents, from the TensorBoard files of the run: nothing else keeps them."""
    charts = []
    for metric, (title, x) in _DISTRIBUTIONS.items():
        tag = Tag(metric, part)
        series = [own for own in read_histograms(run.folder, tag) if len(own.x) > 1]
        if series:
            title += f" ({part})" if part else ""
            charts.append(Lines(title, x, "latents, density", series, name=str(tag)))
    return charts


def read_histograms(run: Path, tag: Tag) -> list[Series]:
    """Read the last histogram of the first seed of each policy.

    Args:
        run: the run folder.
        tag: of the histogram, such as `log10_firing_frequency`.

    Returns:
        Middles of the bins and the share of latents per unit of x in them; none where the run has no such histogram.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    series: dict[str, Series] = {}
    for folder in sorted(run.glob("*-*/")):
        policy, _, seed = folder.name.rpartition("-")
        if policy in series or not seed.isdigit() or not any(folder.glob("events.out.tfevents.*")):
            continue
        events = EventAccumulator(str(folder), size_guidance={"histograms": 0, "scalars": 1})
        events.Reload()
        if f"val/{tag}" not in events.Tags()["histograms"]:
            continue
        last = events.Histograms(f"val/{tag}")[-1].histogram_value
        counts, edges = np.array(last.bucket[1:]), np.array(last.bucket_limit)
        widths = np.diff(edges)
        if len(counts) and counts.sum():
            middles = edges[:-1] + widths / 2
            density = counts / counts.sum() / widths
            series[policy] = Series(policy, middles.tolist(), density.tolist())
    return [series[policy] for policy in sorted(series, key=policy_order)]
