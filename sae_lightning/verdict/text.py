"""An experiment as text: the table of its metrics, and the verdict under it."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

from sae_lightning.members import Tag, in_order, is_known_policy
from sae_lightning.metric import MARGIN, NOT_CONVERGED_ABOVE, OTHER
from sae_lightning.moving_line import wrapped
from sae_lightning.nouns import a_noun, noun, nouns, speaking_of
from sae_lightning.runs import Measurements, describing
from sae_lightning.runs.experiment import Experiment
from sae_lightning.tables import heads, lay_out, number_format
from sae_lightning.verdict import stable_latents
from sae_lightning.verdict.comparison import INACTIVE, UNKNOWN, Comparison
from sae_lightning.verdict.control_table import control_table
from sae_lightning.verdict.decide import LOSS_FALL, decide, floor_of
from sae_lightning.verdict.files import evaluator_noise
from sae_lightning.verdict.stable_latents import StableLatents
from sae_lightning.verdict.statistics import LEVEL
from sae_lightning.verdict.words import CAN_TELL, answer_word, summary, words_legend, worse_than_linear_map

_ALWAYS = ("l0", "cosine_to_start_mean")
"""Metrics of which neither way is better, and which short tables have nevertheless."""
_NO_VARIATION = "±?"
_MOST_DECIMALS = 6


def experiment_texts(
    experiments: Sequence[Experiment], margin: float = MARGIN, is_short: bool = False
) -> Iterator[str]:
    """Yield the table and the verdicts of each experiment, and then the answer; several have the names of their runs.

    The answer is last, since the end is what a terminal shows.

    Args:
        experiments: one or more.
        margin: differences within this share of what the trained SAE has above the floor are equivalent.
        is_short: leave out metrics that repeat others, the ends of intervals, shares, and the table of stable latents.
    """
    for experiment in experiments:
        label = f" ({experiment.name})" if len(experiments) > 1 else ""
        with speaking_of(run.noun for run in experiment.runs):
            texts = list(_texts(experiment, label, margin, is_short))
        yield from texts


def _texts(experiment: Experiment, label: str, margin: float, is_short: bool) -> Iterator[str]:
    runs = experiment.measurements
    comparisons = decide(runs, margin)
    yield "\n".join([metric_table(experiment, label, is_short), *map(wrapped, experiment.notes)])
    if comparisons:
        noise = {comparison.tag: evaluator_noise(runs, comparison.tag) for comparison in comparisons}
        controls = {name: clause for run in runs for name, clause in run.controls.items()}
        for published in dict.fromkeys(comparison.published for comparison in comparisons):
            own = [comparison for comparison in comparisons if comparison.published == published]
            if published:
                yield control_table(own, controls, margin, noise)
            else:
                yield verdict_table(own, margin, noise, is_short) + _about_sizes(experiment)
    elif names := _still_falling(experiment):
        yield wrapped(_not_converged(names), 2)
    if results := stable_latents.stable_latents(runs):
        yield stable_latents_text(results, is_short)
    own = [one for one in comparisons if not one.published]
    if judged := [one for one in own if one.is_random and not one.inactive]:
        question = f"Does {judged[0].subject}{label} beat random?"
        yield "\n".join([f"{question} {answer_word(judged)}.", *_behind(runs, own)])


def _behind(runs: Sequence[Measurements], comparisons: Sequence[Comparison]) -> list[str]:
    """Say where the linear map does better, which needs no latents."""
    return [wrapped(f"It is {text}.") for text in worse_than_linear_map(runs, comparisons)]


def stable_latents_text(results: Sequence[StableLatents], is_short: bool = False) -> str:
    """Say how the stability of latents goes with what else was measured of them.

    Args:
        results: one or more.
        is_short: leave out the table, which says it of every policy.
    """
    table = [] if is_short else [lay_out(stable_latents.table(results))]
    prose = (wrapped(line, 2) for line in (*stable_latents.sentences(results), stable_latents.legend()))
    return "\n".join([stable_latents.QUESTION, *table, *prose])


def _about_sizes(experiment: Experiment) -> str:
    """Say what @ and a size mean in the table, where there are several sizes."""
    if not (size := experiment.first_size_with_baselines):
        return ""
    if any(run.references for run in experiment.measured):
        return f"\n@{size}: {nouns()} that this run trained, beside the published ones"
    return f"\n@{size}: the trained {noun()} of size {size} against the baselines of its size"


def metric_table(experiment: Experiment, label: str = "", is_short: bool = False) -> str:
    """Lay out one experiment: a row per metric, a column per policy, and the floor after this library's policies.

    Args:
        experiment: experiment with the values of each policy and seed.
        label: text after the name of each policy.
        is_short: leave out metrics of which neither way is better, but for a few.
    """
    values, floors = experiment.values(), experiment.floors()
    if is_short:
        values = {tag: own for tag, own in values.items() if _is_shown(experiment, tag)} or values
    columns = in_order(policy for policies in values.values() for policy in policies)
    seeds = {policy: max(len(own[policy]) for own in values.values() if policy in own) for policy in columns}
    has_controls = any(run.controls for run in experiment.measured)
    repeated = "seeds or draws" if has_controls else "seeds"
    n_first = sum(map(is_known_policy, columns)) or len(columns)
    names = [policy + label for policy in columns]
    names.insert(n_first, "floor")
    rows = [["", *line] for line in (heads(names) if is_short else [names])]
    rows.append([repeated, *(str(seeds[policy]) for policy in columns)])
    rows[-1].insert(1 + n_first, "")
    n_head = len(rows)
    for tag, policies in values.items():
        cells = [policies.get(policy, []) for policy in columns]
        show = number_format([*(value for cell in cells for value in cell), floors.get(tag)], is_short)
        texts = [mean_and_deviation(cell, show) for cell in cells]
        rows.append([str(tag), *(text.replace(" ± ", "±") if is_short else text for text in texts)])
        rows[-1].insert(1 + n_first, floor_text(experiment, tag, show))
    note = f"mean ± sample standard deviation over {repeated}; floor: {a_noun()} that does nothing"
    return f"{lay_out(rows, n_head)}\n{wrapped(note)}"


def _is_shown(experiment: Experiment, tag: Tag) -> bool:
    """Return whether a short table has a metric: one with a verdict, one of a few, or one that nothing describes."""
    metric = describing(experiment.measured, tag).metric(tag)
    return bool(metric.better) or tag.metric in _ALWAYS or metric.question == OTHER


def floor_text(experiment: Experiment, tag: Tag, show: str) -> str:
    """Return the floor of a metric as text: from the least to the greatest where policies have floors of their own."""
    runs = experiment.measured
    policies = {member.policy for run in runs for member in run.member_floors.get(tag, ())}
    own = [floor for policy in policies if (floor := floor_of(runs, tag, policy)) is not None]
    ends = dict.fromkeys(f"{floor:{show}}" for floor in (min(own), max(own))) if own else ()
    return " to ".join(ends) or mean_and_deviation([experiment.floors().get(tag)], show)


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


def verdict_table(
    comparisons: Sequence[Comparison],
    margin: float = MARGIN,
    noise: Mapping[Tag, float | None] | None = None,
    is_short: bool = False,
) -> str:
    """Lay out the verdict: a row per metric, a column per baseline, and below what the words mean and what limits them.

    Args:
        comparisons: of one experiment.
        margin: the one that they were made with.
        noise: by metric the smallest difference that its evaluator can tell, where it has seeds of its own.
        is_short: give half the width of an interval in place of its ends, and no shares.
    """
    baselines = in_order(comparison.baseline for comparison in comparisons)
    tags = list(dict.fromkeys(comparison.tag for comparison in comparisons))
    if is_short:  # where no baseline has an interval a row says nothing
        tags = [tag for tag in tags if any(one.has_interval for one in comparisons if one.tag == tag)] or tags
    by_place: Mapping[tuple[Tag, str], Comparison] = {
        (comparison.tag, comparison.baseline): comparison for comparison in comparisons
    }
    known = {tag: own for tag in tags if (own := (noise or {}).get(tag)) is not None}
    names = [*baselines, *(["can tell"] if known else [])]
    first, *others = heads(names) if is_short else [names]
    subject = comparisons[0].subject
    rows = [[f"{subject.removeprefix('the ')} against", *first], *(["", *line] for line in others)]
    n_head = len(rows)
    for tag in tags:
        row = [by_place.get((tag, baseline)) for baseline in baselines]
        means = [comparison.difference.mean for comparison in row if comparison]
        show = number_format([*means, *_scale(row)] if is_short else means, is_short)
        rows.append([str(tag), *((_short_cell if is_short else _cell)(comparison, show) for comparison in row)])
        rows[-1] += [f"{known[tag]:{show}}" if tag in known else "-"] if known else []
    judged = [baseline for baseline in baselines if not _is_reference(baseline, comparisons)]
    lines = [*(summary(baseline, comparisons) for baseline in judged), *_legend(comparisons, margin, is_short)]
    lines += [*_limits([one for one in comparisons if one.tag in tags], is_short), *([CAN_TELL] if known else [])]
    return "\n".join([lay_out(rows, n_head), *(wrapped(line, 2) for line in lines)])


def _scale(row: Sequence[Comparison | None]) -> list[float]:
    """Return values of a metric: a difference needs no more decimals than what it is between."""
    return [one for comparison in row if comparison for one in (comparison.trained, comparison.value)]


def _short_cell(comparison: Comparison | None, show: str) -> str:
    if comparison is None:
        return "-"
    if comparison.verdict == INACTIVE:
        return INACTIVE
    if not comparison.has_interval:
        end = "" if comparison.verdict == UNKNOWN else _NO_VARIATION
        return f"{comparison.verdict} {comparison.difference.mean:+{show}}{end}"
    # An interval must not seem to hold 0, or to leave it out, by rounding alone.
    finest = math.ceil(-math.log10(comparison.difference.half))
    show = f".{max(finest, int(show[1:-1]))}f" if finest <= _MOST_DECIMALS else ".1e"
    return f"{comparison.verdict} {comparison.difference.mean:+{show}}±{comparison.difference.half:{show}}"


def _cell(comparison: Comparison | None, show: str) -> str:
    if comparison is None:
        return "-"
    difference = comparison.difference
    if comparison.verdict == INACTIVE:
        return INACTIVE
    interval = "" if comparison.verdict == UNKNOWN else " [no variation]"
    if comparison.has_interval:
        interval = f" [{difference.low:+{show}}, {difference.high:+{show}}]"
    return f"{comparison.verdict} {difference.mean:+{show}}{interval} {comparison.share_in_percent:>4}".rstrip()


def _is_reference(baseline: str, comparisons: Sequence[Comparison]) -> bool:
    return all(comparison.is_reference for comparison in comparisons if comparison.baseline == baseline)


def _legend(comparisons: Sequence[Comparison], margin: float, is_short: bool) -> Iterator[str]:
    """Say what intervals and words mean."""
    n = max((comparison.difference.n_compared for comparison in comparisons), default=1)
    several = f", for the {n} random baselines of a metric at once" if n > 1 else ""
    others = n > 1 and any(not comparison.is_random for comparison in comparisons)
    interval = f"{LEVEL:.0%} interval{several}{'; for others one by one' if others else ''}"
    if is_short:
        yield f"trained minus baseline ± {interval}"
    else:
        yield (
            f"trained minus baseline [{interval}], and the baseline's value above the floor as a share of that of "
            f"{comparisons[0].subject}"
        )
    yield words_legend(comparisons[0].subject, margin)


def _limits(comparisons: Sequence[Comparison], is_short: bool) -> Iterator[str]:
    """Say once what limits some of the comparisons."""
    with_interval = [one for one in comparisons if one.verdict not in (UNKNOWN, INACTIVE)]
    if any(one.n_seeds == 1 for one in with_interval):
        yield "one seed: intervals are over evaluation items and say nothing about training again"
    if any(one.has_one_degree and one.n_seeds == 2 for one in with_interval):
        yield "two seeds: one degree of freedom, so that intervals are many times wider than with three"
    if any(not one.varies for one in with_interval):
        mark = _NO_VARIATION if is_short else "no variation"
        yield f"{mark}: all seeds have the same difference, so nothing says how much another one would differ"
    if names := in_order(name for one in comparisons for name in one.not_converged):
        yield _not_converged(names) + ", and more steps may decide otherwise"


def _not_converged(names: Sequence[str]) -> str:
    return (
        f"not converged: {', '.join(names)}; the training loss still fell by more than {NOT_CONVERGED_ABOVE:.0%} of "
        "itself in a tenth of the run"
    )


def _still_falling(experiment: Experiment) -> list[str]:
    """Return the policies whose loss still falls, where there is nothing to compare."""
    falls = [policies for tag, policies in experiment.values().items() if tag.metric == LOSS_FALL]
    means = {
        policy: statistics.fmean(value for value in values if value is not None)
        for policies in falls
        for policy, values in policies.items()
        if any(value is not None for value in values)
    }
    return in_order(policy for policy, mean in means.items() if mean > NOT_CONVERGED_ABOVE)
