"""Does this SAE beat random? The first screen: a sentence, a table of counts, and a chart for each question."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sae_lightning.figures.chart import Chart, Table
from sae_lightning.figures.dots import MARKS
from sae_lightning.figures.verdict import by_question, headlines, verdict_chart
from sae_lightning.members import BOUNDS, RANDOM_BASELINES, Tag, in_order, policy_label, policy_title
from sae_lightning.nouns import a_noun, noun, nouns
from sae_lightning.report.across_parts import across_parts
from sae_lightning.report.against_controls import control_counts, limits_of_controls, sentences_on_controls
from sae_lightning.report.points import best_and_rest, points_of
from sae_lightning.runs import Experiment, Measurements
from sae_lightning.verdict import Comparison
from sae_lightning.verdict.words import answer_word, listed, worse_than_linear_map

_WORDS = {
    "beats": "does better on {}",
    "equivalent": "is as good, within the margin, on {}",
    "unclear": "cannot be told from it on {}",
    "loses": "does worse on {}",
    "unknown": "has no interval on {}",
}
_ALONE = "No random baseline was trained beside it: a SanityPanel trains {} together with its baselines."
_OLDER = (
    "Its metrics.jsonl does not say of which metrics more is better, as older versions do not: measure it again "
    "with sae validate --config RUN/config.yaml --ckpt_path RUN/checkpoints/last.ckpt, and make the report of that run."
)


@dataclass(frozen=True)
class Answer:
    """What the verdict comes to.

    Args:
        word: yes, no, or what stands between.
        reasons: the headline metrics behind the word, for each SAE that is compared.
        points: each question with a sentence on its headline metric.
        sentences: against each random baseline or control, and what limits that.
        counts: by question and baseline, a table for the SAEs that were trained and each published one; none where
            there is nothing to compare.
        headlines: a chart for each question, of a metric that was fixed before there were results.
        others: charts of all other metrics with a verdict, by question.
        has_controls: whether a published SAE is compared with controls.
        has_baselines: whether a trained SAE is compared with random baselines.
    """

    word: str
    reasons: Sequence[str]
    points: Sequence[tuple[str, str]]
    sentences: Sequence[str]
    counts: Sequence[Table]
    headlines: Sequence[Chart]
    others: Mapping[str, Sequence[Chart]]
    has_controls: bool = False
    has_baselines: bool = True


def answer(experiment: Experiment, comparisons: Sequence[Comparison]) -> Answer:
    """Put the verdict on an experiment into words and charts.

    Args:
        experiment: one run or more.
        comparisons: between its members.
    """
    runs = experiment.measurements
    charts = _charts(experiment, comparisons)
    groups = {
        published: [one for one in comparisons if one.is_random and one.published == published]
        for published in dict.fromkeys(one.published for one in comparisons if one.is_random)
    }
    if not groups:
        says_better = any(run.better(tag) for run in runs for tag in run.values)
        why = _ALONE.format(a_noun()) if says_better else _OLDER
        return Answer("There is nothing to compare it with", [], [], [why], [], *charts)
    words: list[str] = []
    reasons: list[str] = []
    points: list[tuple[str, str]] = []
    sentences: list[str] = []
    counts: list[Table] = []
    for published, own in groups.items():
        # Of an SAE and its controls the headline of each question decides, as in check.json. Some other metrics are a
        # matter of how a control is made: nearly all latents of a random encoder fire.
        against = [one for one in own if one.baseline not in BOUNDS] or own
        deciding = _headlines_among(runs, against) if published else own
        words.append(answer_word([comparison for comparison in deciding if not comparison.inactive]))
        references = [one for one in comparisons if one.is_reference and one.published == published]
        reasons.append(
            "; ".join(filter(None, [best_and_rest(runs, against), *worse_than_linear_map(runs, references)]))
        )
        named = f" ({own[0].subject})" if len(groups) > 1 else ""
        points += [(question + named, text) for question, text in points_of(runs, own, references)]
        if published:
            sentences += sentences_on_controls(runs, deciding, _against)
            counts.append(control_counts(runs, own))
        else:
            sentences += _on_baselines(experiment, own)
            counts.append(_counts(experiment, own))
    sentences += limits_of_controls([comparison for comparison in comparisons if comparison.n_draws])
    subjects = [own[0].subject for own in groups.values()]
    word = words[0]
    if len(words) > 1:
        word = "; ".join(f"{_first_large(name)}: {own}" for name, own in zip(subjects, words, strict=True))
        reasons = [f"{_first_large(name)} is {why}" if why else "" for name, why in zip(subjects, reasons, strict=True)]
    reasons = [why for why in reasons if why]
    return Answer(word, reasons, points, sentences, counts, *charts, any(groups), "" in groups)


def _first_large(text: str) -> str:
    return text[:1].upper() + text[1:]


def _headlines_among(runs: Sequence[Measurements], comparisons: Sequence[Comparison]) -> list[Comparison]:
    tags = headlines(runs, dict.fromkeys(comparison.tag for comparison in comparisons))
    return [comparison for comparison in comparisons if comparison.tag in tags]


def _on_baselines(experiment: Experiment, comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Say what the trained SAE does to each random baseline, and what limits that."""
    baselines = [name for name in RANDOM_BASELINES if any(one.baseline == name for one in comparisons)]
    against = "; ".join(_against(name, [one for one in comparisons if one.baseline == name]) for name in baselines)
    if any(run.measurements.references for run in experiment.runs):
        yield f"The {noun()} that this run trained: {against}."
    else:
        yield _first_large(against) + "."
        if any(run.measurements.sizes for run in experiment.runs):
            yield f"Each {noun()} is compared with the baselines of its own size."
    yield from _limits([comparison for comparison in comparisons if not comparison.inactive])


def _limits(comparisons: Sequence[Comparison]) -> Iterator[str]:
    with_interval = [comparison for comparison in comparisons if comparison.verdict != "unknown"]
    if any(comparison.n_seeds == 1 for comparison in with_interval):
        yield f"Some intervals are from one seed: they are about these {nouns()} and not about training them again."
    if any(comparison.has_one_degree and comparison.n_seeds == 2 for comparison in with_interval):
        yield "Intervals from two seeds have one degree of freedom: they are many times wider than from three."
    if names := in_order(name for comparison in comparisons for name in comparison.not_converged):
        labels = listed([policy_label(name) for name in names])
        yield f"Not converged: {labels}. The training loss still fell at the end, and more steps may decide otherwise."


def _against(baseline: str, comparisons: Sequence[Comparison]) -> str:
    active = [comparison for comparison in comparisons if not comparison.inactive]
    if not active:
        return f"the {policy_label(baseline)} is left out, {comparisons[0].inactive}"
    counts = Counter(comparison.verdict for comparison in active)
    parts = [words.format(counts[verdict]) for verdict, words in _WORDS.items() if counts[verdict]]
    parts[0] = f"{parts[0]} of {len(active)} metric{'s' if len(active) > 1 else ''}"
    return f"against the {policy_label(baseline)} it {listed(parts)}"


def _counts(experiment: Experiment, comparisons: Sequence[Comparison]) -> Table:
    """Count, for each question and baseline, the metrics on which the trained SAE beats it, loses, or neither."""
    baselines, rows = in_order(comparison.baseline for comparison in comparisons), []
    tags = dict.fromkeys(comparison.tag for comparison in comparisons)
    for question, own in by_question(experiment.measurements, tags).items():
        row = [question.text]
        for baseline in baselines:
            counts = Counter(one.verdict for one in comparisons if one.baseline == baseline and one.tag in own)
            cells = [f"{mark} {counts[verdict]}" for verdict, mark in MARKS.items() if counts[verdict]]
            row.append(" · ".join(cells) or "-")
        rows.append(row)
    return Table(
        f"On how many metrics {comparisons[0].subject} beats (✓), equals (≈) or loses to (✗) each random baseline, and "
        "on how many that cannot be told (~)",
        ["", *map(policy_title, baselines)],
        rows,
    )


def _charts(experiment: Experiment, comparisons: Sequence[Comparison]) -> tuple[list[Chart], dict[str, list[Chart]]]:
    """Draw the headline of each question, of several sizes or hooks in one chart, and by question all other metrics."""
    runs, tags = experiment.measurements, list(dict.fromkeys(comparison.tag for comparison in comparisons))
    by_metric: dict[str, list[Tag]] = {}
    for tag in headlines(runs, tags):
        by_metric.setdefault(tag.metric, []).append(tag)
    across = {metric: across_parts(runs, own) for metric, own in by_metric.items()}
    first: list[Chart] = []
    for metric, own in by_metric.items():
        chart = across[metric]
        first += [verdict_chart(runs, comparisons, tag) for tag in own] if chart is None else [chart]
    drawn = {tag for metric, own in by_metric.items() if across[metric] is None for tag in own}
    others: dict[str, list[Chart]] = {}
    for question, own in by_question(runs, tags).items():
        rest: list[Chart] = [verdict_chart(runs, comparisons, tag) for tag in own if tag not in drawn]
        others |= {question.text: rest} if rest else {}
    return first, others
