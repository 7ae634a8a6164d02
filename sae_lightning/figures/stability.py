"""How stable single latents are over seeds, by policy."""

import numpy as np

from sae_lightning.figures.histogram import Histogram, share_series
from sae_lightning.runs import Run

_BIN = 0.05


def stability_chart(run: Run, part: str) -> Histogram | None:
    """Draw the distribution of the stability of latents that fire, of all seeds; None where it was not measured."""
    stability = run.measurements.latents.get("stability")
    policies: dict[str, list[np.ndarray]] = {}
    for member, latents in (stability.members if stability else {}).items():
        if member.part == part and np.isfinite(latents).any():
            policies.setdefault(member.policy, []).append(latents[np.isfinite(latents)])
    if not policies:
        return None
    values = {policy: np.concatenate(own) for policy, own in policies.items()}
    least = min(own.min() for own in values.values()) // _BIN * _BIN
    edges = np.arange(least, 1 + _BIN, _BIN)
    title = "Stability of single latents" + (f" ({part})" if part else "")
    x = "largest cosine to a latent of another seed"
    n = sum(map(len, values.values()))
    note = f"The mean over other seeds, for {n:,} latents that fire, of all seeds, in bins of {_BIN:g}."
    return Histogram(title, x, "share of latents", share_series(values, edges), edges, note=note, percent=True)
