"""Distributions over latents, from the TensorBoard files of a run; nothing else keeps them."""

from pathlib import Path

import numpy as np

from sae_lightning.report.charts import Series


def histogram(run: Path, name: str) -> list[Series]:
    """The last histogram of each policy, its first seed, as shares of latents in steps.

    Args:
        run: a run folder.
        name: of the chart, such as `log10_firing_frequency`; TensorBoard's is `val/<name>`.

    Returns:
        Middles of the bins and the share of latents per unit of x in them; none where the run has no such histogram.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for folder in sorted(run.glob("*-*/")):
        policy, _, seed = folder.name.rpartition("-")
        if policy in found or not seed.isdigit() or not any(folder.glob("events.out.tfevents.*")):
            continue
        events = EventAccumulator(str(folder), size_guidance={"histograms": 0, "scalars": 1})
        events.Reload()
        if f"val/{name}" not in events.Tags()["histograms"]:
            continue
        last = events.Histograms(f"val/{name}")[-1].histogram_value
        counts, edges = np.array(last.bucket[1:]), np.array(last.bucket_limit)
        widths = np.diff(edges)
        if len(counts) and counts.sum():
            middles = edges[:-1] + widths / 2
            found[policy] = Series(policy, middles.tolist(), (counts / counts.sum() / widths).tolist())
    return list(found.values())
