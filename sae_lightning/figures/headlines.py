"""The headline metric of each question: the trained SAE and every baseline, from the floor to what they score."""

from collections.abc import Mapping, Sequence

from sae_lightning.figures.bars import Bars
from sae_lightning.figures.dots import Row
from sae_lightning.figures.verdict import headlines
from sae_lightning.members import TRAINED, Tag, in_order
from sae_lightning.runs import Measurements, describing
from sae_lightning.runs.measurements import in_order as tags_in_order
from sae_lightning.verdict import decide
from sae_lightning.verdict.comparison import UNKNOWN
from sae_lightning.verdict.decide import better_way, floor_of, published_of
from sae_lightning.verdict.differences import mean_of, values_of


def headline_tags(runs: Sequence[Measurements]) -> list[Tag]:
    """Return the headline of each question that has a better way, of every part that has it."""
    judged = dict.fromkeys(tag for run in runs for tag in run.values if run.better(tag))
    return headlines(runs, tags_in_order(runs, judged))


def headline_charts(runs: Sequence[Measurements]) -> list[Bars]:
    """Draw each headline, with the verdict on each baseline.

    An interval is that of one mean by itself, over seeds or draws. The verdict is about differences, whose intervals
    are narrower as a rule: seeds and items are paired there.

    Args:
        runs: of one experiment.
    """
    words = {(one.tag, one.baseline): one.verdict for one in decide(runs)}
    charts = (_bars(runs, tag, words) for tag in headline_tags(runs))
    return [chart for chart in charts if chart.rows]  # what is withheld of all has none


def axis_ends(runs: Sequence[Measurements], tag: Tag) -> tuple[float | None, float | None]:
    """Return the floor of a metric and the best value there can be, each None where nothing says it.

    A metric without a unit is a share, a cosine or the like, which is 1 or, where lower is better, 0 at best.
    """
    best = 0.0 if any(run.better(tag) == "lower" for run in runs) else 1.0
    has_best = best == 0 or not describing(runs, tag).metric(tag).unit
    return floor_of(runs, tag, TRAINED), best if has_best else None


def is_reference(runs: Sequence[Measurements], tag: Tag, policy: str) -> bool:
    """Return whether what has this name in runs of one experiment is no SAE, by the runs that have it."""
    return all(run.is_reference(policy) for run in runs if policy in run.of_part(tag.part))


def _bars(runs: Sequence[Measurements], tag: Tag, words: Mapping[tuple[Tag, str], str]) -> Bars:
    compared, rows, references = published_of(runs, tag.part) or TRAINED, [], []
    for policy in in_order(member.policy for run in runs for member in run.values.get(tag, ())):
        if (mean := mean_of(runs, tag, policy)) is None:
            continue
        seeds = list(values_of(runs, tag, policy).values())
        interval = (mean.low, mean.high) if mean.half > 0 else None
        word = words.get((tag, policy), "")
        rows.append(Row(compared if policy == TRAINED else policy, seeds, interval, "" if word == UNKNOWN else word))
        references += [policy] if is_reference(runs, tag, policy) else []
    describes = describing(runs, tag)
    metric, (floor, best) = describes.metric(tag), axis_ends(runs, tag)
    return Bars(
        metric.question.text,
        rows,
        floor,
        better_way(runs, tag),
        metric.unit,
        compared,
        best=best,
        metric=describes.label(tag),
        references=references,
        name=str(tag),
        about=metric.computed,
    )
