"""Accuracy of probes over the number of latents that they may read."""

import re
from collections.abc import Sequence
from statistics import fmean

from sae_lightning.figures.chart import Chart, least_ends
from sae_lightning.figures.lines import Guide, Lines, Series
from sae_lightning.members import Tag, in_order
from sae_lightning.runs import Run

_TITLES = {
    "probe_accuracy_k": "Accuracy of probes",
    "probe_accuracy_ood_k": "Accuracy on other data than they were fitted on",
    "probe_auroc_k": "AUROC of probes",
    "probe_auroc_ood_k": "AUROC on other data than they were fitted on",
}
_LEAST_SPAN = 0.2
"""Above chance an axis shows this much at least: shares of a few hundred answers differ by noise below it."""
_X = "latents or directions that it reads"


def probe_charts(run: Run, tags: Sequence[Tag]) -> tuple[list[Chart], list[Tag]]:
    """Draw each measure that a probe has for several k, and return with the charts the metrics that are in them."""
    charts: list[Chart] = []
    together: list[Tag] = []
    for start, title in _TITLES.items():
        by_k = {(tag.part, int(end[1])): tag for tag in tags if (end := re.fullmatch(rf"{start}(\d+)", tag.metric))}
        for part in dict.fromkeys(part for part, _ in by_k):
            points: dict[str, dict[int, float]] = {}
            for (_, k), tag in sorted(pair for pair in by_k.items() if pair[0][0] == part):
                for policy, seeds in run.measurements.by_policy(tag).items():
                    values = [value for value in seeds.values() if value is not None]
                    if values:
                        points.setdefault(policy, {})[k] = fmean(values)
            if points:
                series = [Series(name, list(points[name]), list(points[name].values())) for name in in_order(points)]
                suffix, y = f" ({part})" if part else "", "AUROC" if "auroc" in start else "accuracy"
                floors = [floor for _, tag in by_k.items() if (floor := run.measurements.floor(tag)) is not None]
                floor, values = fmean(floors) if floors else None, [value for own in series for value in own.y]
                ends = least_ends(values, floor, _LEAST_SPAN)
                guides = [] if floor is None else [Guide(floor, "chance")]
                tag = Tag(f"{start}*", part)
                charts.append(Lines(title + suffix, _X, y, series, name=str(tag), guides=guides, y_includes=ends))
        together += by_k.values()
    return charts, together
