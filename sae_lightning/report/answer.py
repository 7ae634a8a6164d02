"""Does this SAE beat random? The first screen: a sentence, a table of counts, and a chart for each question."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sae_lightning.compare import Run, by_size
from sae_lightning.report.charts import Row, dots
from sae_lightning.report.figure import Chart, Table
from sae_lightning.report.words import RANDOM, by_question, in_order, listed, policy_label
from sae_lightning.verdict import Comparison

_WORDS = {
    "beats": "does better on {}",
    "ties": "is not told apart on {}",
    "loses": "does worse on {}",
    "unknown": "has no interval on {}",
}
_ALONE = "No random baseline was trained beside it: a SanityPanel trains an SAE together with its baselines."
_OLDER = (
    "Its metrics.jsonl does not say of which metrics more is better, as older versions do not: measure it again "
    "with sae validate --config RUN/config.yaml --ckpt_path RUN/checkpoints/last.ckpt, and make the report of that run."
)


@dataclass(frozen=True)
class Answer:
    """What the verdict comes to.

    Args:
        word: yes, no, or what stands between.
        sentences: against each random baseline, and what limits that.
        counts: by question and baseline; None where there is nothing to compare.
        headlines: a chart for each question, of a metric that was fixed before there were results.
        others: charts of all other metrics with a verdict, by question.
    """

    word: str
    sentences: Sequence[str]
    counts: Table | None
    headlines: Sequence[Chart]
    others: Mapping[str, Sequence[Chart]]


def answer(runs: Sequence[Run], comparisons: Sequence[Comparison], key: str) -> Answer:
    """Tell the verdict of one experiment.

    Args:
        runs: of it.
        comparisons: between them.
        key: what makes the ids of its charts its own.
    """
    sizes = {size for run in runs for size, _ in run.sizes.values()}
    runs = [by_size(run) for run in runs]
    baselines = [name for name in RANDOM if any(of.baseline == name for of in comparisons)]
    if not baselines:
        why = _OLDER if not any(run.better for run in runs) else _ALONE
        return Answer("There is nothing to compare it with", [why], None, *_charts(runs, comparisons, key))
    of_random = [of for of in comparisons if of.baseline in baselines]
    against = "; ".join(_against(name, [of for of in of_random if of.baseline == name]) for name in baselines)
    sentences = [against[:1].upper() + against[1:] + "."]
    if sizes:
        sentences.append("Each SAE is compared with the baselines of its own size.")
    if any(of.n_seeds == 1 and of.verdict != "unknown" for of in of_random):
        sentences.append(
            "Some intervals are from one seed: they are about these SAEs and not about training them again."
        )
    return Answer(_word(of_random), sentences, _counts(comparisons), *_charts(runs, comparisons, key))


def _word(of_random: Sequence[Comparison]) -> str:
    counts = Counter(of.verdict for of in of_random)
    asked = len(of_random) - counts["unknown"]
    if asked <= counts["unknown"]:
        return "Too few seeds to tell"
    if counts["beats"] == asked:
        return "Yes" if asked == len(of_random) else "Yes, wherever it can be told"
    if not counts["beats"]:
        return "No" if counts["loses"] else "No difference was found"
    return "In part"


def _against(baseline: str, comparisons: Sequence[Comparison]) -> str:
    counts = Counter(of.verdict for of in comparisons)
    parts = [words.format(counts[verdict]) for verdict, words in _WORDS.items() if counts[verdict]]
    parts[0] = f"{parts[0]} of {len(comparisons)} metric{'s' if len(comparisons) > 1 else ''}"
    return f"against the {policy_label(baseline)} it {listed(parts)}"


def _counts(comparisons: Sequence[Comparison]) -> Table:
    """A row for each question, a column for each baseline: on how many metrics it beats, ties, loses."""
    baselines = [name for name in in_order(of.baseline for of in comparisons) if name in RANDOM]
    rows = []
    for question, metrics in by_question(dict.fromkeys(of.metric for of in comparisons)).items():
        row = [question.text]
        for baseline in baselines:
            counts = Counter(of.verdict for of in comparisons if of.baseline == baseline and of.metric in metrics)
            told = [f"{mark} {counts[verdict]}" for verdict, mark in _MARKS.items() if counts[verdict]]
            row.append(" · ".join(told) or "-")
        rows.append(row)
    return Table(
        "On how many metrics the trained SAE beats (✓), ties with (=) or loses to (✗) each random baseline",
        ["", *map(policy_label, baselines)],
        rows,
    )


_MARKS = {"beats": "✓", "ties": "=", "loses": "✗", "unknown": "?"}


def headlines(metrics: Sequence[str]) -> list[str]:
    """One metric for each question, of every hook that has it, and never chosen by its result."""
    found = []
    for question, of in by_question(metrics).items():
        names = [metric.partition("@")[0] for metric in of]
        first = question.headline if question.headline in names else names[0]
        found += [metric for metric, name in zip(of, names, strict=True) if name == first]
    return found


def _charts(
    runs: Sequence[Run], comparisons: Sequence[Comparison], key: str
) -> tuple[list[Chart], dict[str, list[Chart]]]:
    metrics = list(dict.fromkeys(of.metric for of in comparisons))
    first = headlines(metrics)
    shown, others = [], {}
    for question, of in by_question(metrics).items():
        charts = {metric: _chart(runs, comparisons, metric, key, metric in first) for metric in of}
        shown += [chart for metric, chart in charts.items() if metric in first]
        if rest := [chart for metric, chart in charts.items() if metric not in first]:
            others[question.text] = rest
    return shown, others


def _chart(runs: Sequence[Run], comparisons: Sequence[Comparison], metric: str, key: str, is_headline: bool) -> Chart:
    note = _reach({of.baseline: of for of in comparisons if of.metric == metric}) if is_headline else ""
    return dots(f"{key} {metric}", metric, *verdict_rows(runs, comparisons, metric), note)


def verdict_rows(
    runs: Sequence[Run], comparisons: Sequence[Comparison], metric: str
) -> tuple[list[Row], float | None, str]:
    """Members of the chart of a metric with a verdict, its floor, and which way is better."""
    by_baseline = {of.baseline: of for of in comparisons if of.metric == metric}
    rows = []
    for policy in in_order(["trained", *by_baseline]):
        seeds = [value for run in runs for value in run.metrics[metric].get(policy, {}).values() if value is not None]
        of = by_baseline.get(policy)
        span = None
        if of is not None and not math.isnan(of.difference.low):
            span = of.trained - of.difference.high, of.trained - of.difference.low
        rows.append(Row(policy, seeds, span, of.verdict if of is not None else ""))
    floors = [floor for run in runs if (floor := run.floors.get(metric)) is not None]
    better = next(run.better[metric] for run in runs if metric in run.better)
    return rows, floors[0] if floors else None, better


def _reach(by_baseline: Mapping[str, Comparison]) -> str:
    """How much of what the trained SAE has above the floor the random baselines have."""
    parts = [
        f"{policy_label(name)} {by_baseline[name].share:.0%}"
        for name in RANDOM
        if name in by_baseline and by_baseline[name].share is not None
    ]
    return f"Distance from the floor, as a share of the trained SAE's: {', '.join(parts)}." if parts else ""
