"""Scores of the latents that ``AutoInterp`` has interpreted."""

from collections.abc import Sequence

import numpy as np

from sae_lightning.evaluators.auto_interp import FILE_NAME
from sae_lightning.figures.chart import Chart
from sae_lightning.figures.histogram import Histogram, share_series
from sae_lightning.interpretation.strongest import kept_lines
from sae_lightning.members import Member, Tag
from sae_lightning.runs import Run

_BIN = 0.05


def score_charts(run: Run, tags: Sequence[Tag]) -> tuple[list[Chart], list[Tag]]:
    """Draw the distribution of the scores for each part, beside metrics of interpretation; none of these is in it."""
    parts = [part for part in run.parts if any(tag.part == part and tag.metric.startswith("interp_") for tag in tags)]
    lines = list(kept_lines(run.file(FILE_NAME))) if parts else []
    charts: list[Chart] = []
    for part in parts:
        scores: dict[str, list[float]] = {}
        for line in lines:
            member = Member.parse(line["member"])
            if member.part == part and line["score"] is not None:
                scores.setdefault(member.policy, []).append(line["score"])
        if scores:
            charts.append(_chart(scores, part))
    return charts, []


def _chart(scores: dict[str, list[float]], part: str) -> Chart:
    least = min(map(min, scores.values())) // _BIN * _BIN
    edges = np.arange(least, 1 + _BIN, _BIN)
    series = share_series({policy: np.array(values) for policy, values in scores.items()}, edges)
    title = "Scores of single latents" + (f" ({part})" if part else "")
    note = f"{sum(map(len, scores.values())):,} latents of all seeds, in bins of {_BIN:g}; chance is 0.5."
    return Histogram(
        title, "accuracy of a latent's explanation", "share of latents", series, edges, note=note, percent=True
    )
