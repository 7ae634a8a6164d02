"""The verdict as a table: a row per metric, a column per baseline."""

import math
from collections import Counter
from collections.abc import Sequence

from sae_lightning.tables import lay_out, number_format
from sae_lightning.verdict.decide import Comparison
from sae_lightning.verdict.statistics import LEVEL


def verdict_table(comparisons: Sequence[Comparison]) -> str:
    """Does the trained SAE beat its baselines?"""
    baselines = list(dict.fromkeys(of.baseline for of in comparisons))
    metrics = list(dict.fromkeys(of.metric for of in comparisons))
    by_place = {(of.metric, of.baseline): of for of in comparisons}
    rows = [["trained SAE against", *baselines]]
    for metric in metrics:
        of_row = [by_place.get((metric, baseline)) for baseline in baselines]
        show = number_format([of.difference.mean for of in of_row if of])
        rows.append([metric, *(_cell(of, show) for of in of_row)])
    n_asked = sum(not math.isnan(of.p_adjusted) for of in comparisons)
    lines = [lay_out(rows), *(_summary(baseline, comparisons) for baseline in baselines)]
    lines += [
        f"trained minus baseline [{LEVEL:.0%} interval], "
        "and the baseline's value above the floor as a share of the trained SAE's",
        f"beats, loses: at a false discovery rate of {1 - LEVEL:.0%} over these {n_asked} comparisons; "
        "ties: not told apart by these data",
    ]
    if any(of.n_seeds == 1 and of.verdict != "unknown" for of in comparisons):
        lines.append("one seed: intervals are over evaluation items and say nothing about training again")
    return "\n".join(lines)


def _cell(of: Comparison | None, show: str) -> str:
    if of is None:
        return "-"
    found = of.difference
    interval = "" if math.isnan(found.low) else f" [{found.low:+{show}}, {found.high:+{show}}]"
    share = "" if of.share is None else f" {of.share:4.0%}"
    return f"{of.verdict} {found.mean:+{show}}{interval}{share}"


def _summary(baseline: str, comparisons: Sequence[Comparison]) -> str:
    counts = Counter(of.verdict for of in comparisons if of.baseline == baseline)
    told = ", ".join(f"{verdict} on {counts[verdict]}" for verdict in ("beats", "ties", "loses") if counts[verdict])
    unknown = f" ({counts['unknown']} without an interval)" if counts["unknown"] else ""
    return f"{baseline}: the trained SAE {told or 'cannot be compared'}{unknown}"
