"""An experiment as text: the table of its metrics, and the verdict under it."""

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from sae_lightning.members import Tag, in_order, is_known_policy
from sae_lightning.runs.experiment import Experiment
from sae_lightning.tables import lay_out, number_format
from sae_lightning.verdict.decide import Comparison, decide
from sae_lightning.verdict.statistics import LEVEL


def experiment_texts(experiments: Sequence[Experiment]) -> Iterator[str]:
    """Yield the table and the verdict of each experiment; with several, columns carry the names of their runs."""
    for experiment in experiments:
        yield metric_table(experiment, f" ({experiment.name})" if len(experiments) > 1 else "")
        if comparisons := decide(experiment.measurements):
            text = verdict_table(comparisons)
            if size := experiment.first_size_with_baselines:
                text += f"\n@{size}: the trained SAE of size {size} against the baselines of its size"
            yield text


def metric_table(experiment: Experiment, label: str = "") -> str:
    """Lay out one experiment: a row per metric, a column per policy, and the floor after this library's policies.

    Args:
        experiment: experiment with the values of each policy and seed.
        label: text after the name of each policy.
    """
    values, floors = experiment.values(), experiment.floors()
    columns = in_order(policy for policies in values.values() for policy in policies)
    seeds = {policy: max(len(own[policy]) for own in values.values() if policy in own) for policy in columns}
    n_first = sum(map(is_known_policy, columns)) or len(columns)
    rows = [
        ["", *(policy + label for policy in columns)],
        ["seeds", *(str(seeds[policy]) for policy in columns)],
    ]
    rows[0].insert(1 + n_first, "floor")
    rows[1].insert(1 + n_first, "")
    for tag, policies in values.items():
        cells = [policies.get(policy, []) for policy in columns]
        show = number_format([*(value for cell in cells for value in cell), floors.get(tag)])
        rows.append([str(tag), *(mean_and_deviation(cell, show) for cell in cells)])
        rows[-1].insert(1 + n_first, mean_and_deviation([floors.get(tag)], show))
    note = "mean ± sample standard deviation over seeds; floor: an SAE that does nothing"
    return f"{lay_out(rows, n_head=2)}\n{note}"


def mean_and_deviation(values: Sequence[float | None], show: str) -> str:
    """Return the mean and the sample standard deviation as text, or a hyphen without values.

    >>> mean_and_deviation([1.0, 3.0], ".2f"), mean_and_deviation([1.0, None], ".2f"), mean_and_deviation([], ".2f")
    ('2.00 ± 1.41', '1.00', '-')
    """
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "-"
    mean = f"{statistics.fmean(numbers):{show}}"
    return mean if len(numbers) == 1 else f"{mean} ± {statistics.stdev(numbers):{show}}"


def verdict_table(comparisons: Sequence[Comparison]) -> str:
    """Lay out the verdict: a row per metric, a column per baseline."""
    baselines = in_order(comparison.baseline for comparison in comparisons)
    tags = list(dict.fromkeys(comparison.tag for comparison in comparisons))
    by_place: Mapping[tuple[Tag, str], Comparison] = {
        (comparison.tag, comparison.baseline): comparison for comparison in comparisons
    }
    rows = [["trained SAE against", *baselines]]
    for tag in tags:
        row = [by_place.get((tag, baseline)) for baseline in baselines]
        show = number_format([comparison.difference.mean for comparison in row if comparison])
        rows.append([str(tag), *(_cell(comparison, show) for comparison in row)])
    n_compared = sum(not math.isnan(comparison.p_adjusted) for comparison in comparisons)
    lines = [lay_out(rows), *(_summary(baseline, comparisons) for baseline in baselines)]
    lines += [
        f"trained minus baseline [{LEVEL:.0%} interval], "
        "and the baseline's value above the floor as a share of the trained SAE's",
        f"beats, loses: at a false discovery rate of {1 - LEVEL:.0%} over these {n_compared} comparisons; "
        "ties: these data show no clear difference",
    ]
    if any(comparison.n_seeds == 1 and comparison.verdict != "unknown" for comparison in comparisons):
        lines.append("one seed: intervals are over evaluation items and say nothing about training again")
    return "\n".join(lines)


def _cell(comparison: Comparison | None, show: str) -> str:
    if comparison is None:
        return "-"
    difference = comparison.difference
    interval = "" if math.isnan(difference.low) else f" [{difference.low:+{show}}, {difference.high:+{show}}]"
    share = "" if comparison.share is None else f" {comparison.share:4.0%}"
    return f"{comparison.verdict} {difference.mean:+{show}}{interval}{share}"


def _summary(baseline: str, comparisons: Sequence[Comparison]) -> str:
    counts = Counter(comparison.verdict for comparison in comparisons if comparison.baseline == baseline)
    parts = [f"{verdict} on {counts[verdict]}" for verdict in ("beats", "ties", "loses") if counts[verdict]]
    unknown = f" ({counts['unknown']} without an interval)" if counts["unknown"] else ""
    return f"{baseline}: the trained SAE {', '.join(parts) or 'cannot be compared'}{unknown}"
