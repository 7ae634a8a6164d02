"""A metric as dots, with the verdict on each baseline where there is one; and which metrics come first."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from sae_lightning.figures.dots import Dots, Row
from sae_lightning.members import TRAINED, Tag, in_order, policy_title
from sae_lightning.metric import Question
from sae_lightning.nouns import noun
from sae_lightning.runs import Measurements, describing
from sae_lightning.verdict import Comparison
from sae_lightning.verdict.comparison import UNKNOWN
from sae_lightning.verdict.decide import floor_of
from sae_lightning.verdict.files import evaluator_noise


def by_question(runs: Sequence[Measurements], tags: Iterable[Tag]) -> dict[Question, list[Tag]]:
    """Sort metrics by what they ask, in the order of the page."""
    questions: dict[str, Question] = {}
    sorted_tags: dict[str, list[Tag]] = {}
    for tag in tags:
        question = describing(runs, tag).metric(tag).question
        questions.setdefault(question.name, question)
        sorted_tags.setdefault(question.name, []).append(tag)
    in_page_order = sorted(questions.values(), key=lambda question: question.order)
    return {question: sorted_tags[question.name] for question in in_page_order}


def headlines(runs: Sequence[Measurements], tags: Iterable[Tag]) -> list[Tag]:
    """Return the headlines of each question, of every part that has them; where it has none, its first metric.

    A question has one, and that about explained variance a second for transcoders, beyond the best linear map. They are
    never chosen by their result.
    """
    chosen = []
    for own in by_question(runs, tags).values():
        fixed = {tag.metric for tag in own if describing(runs, tag).metric(tag).is_headline} or {own[0].metric}
        chosen += [tag for tag in own if tag.metric in fixed]
    return chosen


def verdict_chart(runs: Sequence[Measurements], comparisons: Sequence[Comparison], tag: Tag) -> Dots:
    """Draw a metric that has a verdict: the trained or published SAE, and each baseline with its interval beside it.

    Args:
        runs: of one experiment.
        comparisons: between them.
        tag: one that they are about.
    """
    by_baseline = {comparison.baseline: comparison for comparison in comparisons if comparison.tag == tag}
    some = next(iter(by_baseline.values()))
    compared = some.published or TRAINED
    rows = []
    for policy in in_order([TRAINED, *by_baseline]):
        members = [pair for run in runs for pair in run.values.get(tag, {}).items()]
        seeds = [value for member, value in members if member.policy == policy and value is not None]
        comparison, interval = by_baseline.get(policy), None
        if comparison is not None and comparison.has_interval:
            low, high = comparison.difference.low, comparison.difference.high
            interval = comparison.trained - high, comparison.trained - low
        rows.append(
            Row(
                compared if policy == TRAINED else policy,
                seeds,
                interval,
                comparison.verdict if comparison is not None else "",
            )
        )
    notes = _limits(by_baseline)
    if (noise := evaluator_noise(runs, tag)) is not None:
        notes.append(f"Two measurements of one {noun()}, with an evaluator seed each, may differ by {noise:.2g}.")
    chart = _dots(runs, tag, rows, floor_of(runs, tag, TRAINED), " ".join(notes))
    return replace(chart, compared=compared, subject=some.subject)


def _limits(by_baseline: Mapping[str, Comparison]) -> list[str]:
    """Say which baselines have no interval though there are seeds, and why."""
    reasons: dict[str, list[str]] = {}
    for name, comparison in by_baseline.items():
        if comparison.inactive or not (comparison.varies or comparison.verdict == UNKNOWN):
            for note in comparison.limits:
                reasons.setdefault(note, []).append(policy_title(name))
    return [f"{', '.join(names)}: {note}." for note, names in reasons.items()]


def metric_chart(run: Measurements, tag: Tag) -> Dots | None:
    """Draw a metric without verdicts; None where it has no number."""
    rows = rows_of(run, tag)
    return _dots([run], tag, rows, run.floor(tag)) if rows else None


def rows_of(run: Measurements, tag: Tag) -> list[Row]:
    """Return a row for each policy that has a number."""
    by_policy = run.by_policy(tag)
    seeds = {policy: [value for value in by_policy[policy].values() if value is not None] for policy in by_policy}
    return [Row(policy, seeds[policy]) for policy in in_order(seeds) if seeds[policy]]


def _dots(runs: Sequence[Measurements], tag: Tag, rows: Sequence[Row], floor: float | None, note: str = "") -> Dots:
    metric, title = describing(runs, tag).metric(tag), describing(runs, tag).label(tag)
    better = next((better for run in runs if (better := run.better(tag))), "")
    about = [metric.computed, f"floor: {metric.floor}" if metric.floor and floor is not None else ""]
    about_text = "; ".join(filter(None, about))
    return Dots(title, rows, floor, better, metric.unit, name=str(tag), note=note, about=about_text)
