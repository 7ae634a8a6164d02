"""A published SAE against its controls: the sentences and the table of counts on the first screen."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from sae_lightning.figures.chart import Table
from sae_lightning.figures.dots import MARKS
from sae_lightning.figures.verdict import by_question
from sae_lightning.members import Tag, in_order, policy_label, policy_title
from sae_lightning.nouns import noun
from sae_lightning.runs import Measurements
from sae_lightning.verdict import Comparison
from sae_lightning.verdict.comparison import BEATS, LOSES, UNKNOWN

_MOST_NAMED = 4


def sentences_on_controls(
    runs: Sequence[Measurements], comparisons: Sequence[Comparison], against: Callable[[str, Sequence[Comparison]], str]
) -> Iterator[str]:
    """Say which controls a published SAE beats on every question, and which are better on one.

    Args:
        runs: of one experiment.
        comparisons: of one published SAE with its controls.
        against: puts the comparisons with one control into a clause.
    """
    subject = comparisons[0].subject
    by_control = _by_control(comparisons)
    beaten = [name for name, own in by_control.items() if _is_beaten(own)]
    subject = subject[:1].upper() + subject[1:]
    if len(beaten) == len(by_control):
        yield f"{subject} beats {_number(beaten)} on every question: {_listed(beaten)}."
    elif beaten:
        yield f"{subject} beats {len(beaten)} of {_number(by_control)} on every question: {_listed(beaten)}."
    else:
        yield f"{subject} beats none of {_number(by_control)} on every question."
    rest = [against(name, own) for name, own in by_control.items() if name not in beaten]
    if rest:
        text = "; ".join(rest)
        yield text[:1].upper() + text[1:] + "."
    better = {name: tags for name, own in by_control.items() if (tags := _lost(own))}
    if better:
        clauses = "; ".join(f"{policy_label(name)} ({_metrics(runs, tags)})" for name, tags in better.items())
        yield f"Better than it on some question: {clauses}."


def limits_of_controls(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Say over what intervals are, and what that leaves open.

    Args:
        comparisons: of published SAEs with their controls.
    """
    shown = [comparison for comparison in comparisons if comparison.has_interval]
    draws = sorted({comparison.n_draws for comparison in shown if comparison.n_draws > 1})
    if draws:
        counts = f"{draws[0]}" if len(draws) == 1 else f"{draws[0]} to {draws[-1]}"
        over = f"over {counts} draws of a control and evaluation items, of a control of one draw over items alone"
    else:
        over = "over evaluation items"
    if shown:
        yield (f"Intervals are {over}: they are about a published {noun()}, and not about another one trained like it.")
    if any(comparison.has_one_degree and comparison.n_draws == 2 for comparison in shown):
        yield "Intervals from two draws have one degree of freedom: they are many times wider than from three."


def control_counts(runs: Sequence[Measurements], comparisons: Sequence[Comparison]) -> Table:
    """Count, for each control and question, the metrics on which a published SAE beats it, loses, or neither.

    Args:
        runs: of one experiment.
        comparisons: of one published SAE with its controls.
    """
    clauses = {name: clause for run in runs for name, clause in run.controls.items()}
    questions = by_question(runs, dict.fromkeys(comparison.tag for comparison in comparisons))
    rows = []
    for name, own in _by_control(comparisons).items():
        cells = [_cell([one for one in own if one.tag in tags]) for tags in questions.values()]
        rows.append([": ".join(filter(None, [policy_title(name), clauses.get(name)])), *cells])
    return Table(
        f"On how many metrics {comparisons[0].subject} beats (✓), equals (≈) or loses to (✗) each control, and on how "
        "many that cannot be told (~)",
        ["control, and what it controls for", *(question.text for question in questions)],
        rows,
    )


def _by_control(comparisons: Sequence[Comparison]) -> dict[str, list[Comparison]]:
    names = in_order(comparison.baseline for comparison in comparisons)
    return {name: [one for one in comparisons if one.baseline == name] for name in names}


def _cell(comparisons: Sequence[Comparison]) -> str:
    counts = Counter(comparison.verdict for comparison in comparisons)
    return " · ".join(f"{mark} {counts[verdict]}" for verdict, mark in MARKS.items() if counts[verdict]) or "-"


def _is_beaten(comparisons: Sequence[Comparison]) -> bool:
    """Return whether a control is beaten wherever it has an interval and differs."""
    words = {one.verdict for one in comparisons if one.verdict != UNKNOWN and not one.inactive}
    return words == {BEATS}


def _lost(comparisons: Sequence[Comparison]) -> list[Tag]:
    return [one.tag for one in comparisons if one.verdict == LOSES]


def _metrics(runs: Sequence[Measurements], tags: Sequence[Tag]) -> str:
    """Name metrics, the first ones of many."""
    labels = list(dict.fromkeys(next(run for run in runs if run.better(tag)).metric(tag).label for tag in tags))
    more = f" and {len(labels) - _MOST_NAMED} more" if len(labels) > _MOST_NAMED else ""
    return ", ".join(labels[:_MOST_NAMED]) + more


def _number(controls: Sequence[str] | Mapping[str, object]) -> str:
    return "its only control" if len(controls) == 1 else f"its {len(controls)} controls"


def _listed(controls: Sequence[str]) -> str:
    """Join names, in which there may be commas."""
    return "; ".join(map(policy_label, controls))
