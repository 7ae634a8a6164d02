"""The verdict on a published SAE as text: its controls under each metric, since there are too many for columns."""

from collections.abc import Iterator, Mapping, Sequence

from sae_lightning.members import Tag, in_order
from sae_lightning.metric import MARGIN
from sae_lightning.moving_line import wrapped
from sae_lightning.nouns import noun
from sae_lightning.tables import lay_out, number_format
from sae_lightning.verdict.comparison import INACTIVE, UNKNOWN, Comparison
from sae_lightning.verdict.statistics import LEVEL
from sae_lightning.verdict.words import CAN_TELL, summary, words_legend


def control_table(
    comparisons: Sequence[Comparison],
    controls: Mapping[str, str],
    margin: float = MARGIN,
    noise: Mapping[Tag, float | None] | None = None,
) -> str:
    """Lay out the verdict on one published SAE: a row per metric and control, and below what limits them.

    Args:
        comparisons: of one published SAE.
        controls: what each control controls for, by name.
        margin: the one that the comparisons were made with.
        noise: by metric the smallest difference that its evaluator can tell, where it has seeds of its own.
    """
    subject = comparisons[0].subject
    rows = [[f"{subject} against", "value", "", "difference", f"{LEVEL:.0%} interval", "share"]]
    can_tell = []
    for tag in dict.fromkeys(comparison.tag for comparison in comparisons):
        own = [comparison for comparison in comparisons if comparison.tag == tag]
        show = number_format([own[0].trained, *(comparison.value for comparison in own)])
        rows.append([str(tag), f"{own[0].trained:{show}}", "", "", "", ""])
        rows += [_row(comparison, show) for comparison in own]
        if own[0].floor is not None:
            rows.append(["  floor", f"{own[0].floor:{show}}", "", "", "", ""])
        if (least := (noise or {}).get(tag)) is not None:
            can_tell.append(f"{tag} {least:{show}}")
    told = [f"can tell: {', '.join(can_tell)}", CAN_TELL] if can_tell else []
    lines = [*_summaries(comparisons, controls), *_legend(comparisons, margin), *_limits(comparisons), *told]
    return "\n".join([lay_out(rows), *(wrapped(line, 2) for line in lines)])


def _row(comparison: Comparison, show: str) -> list[str]:
    difference = comparison.difference
    interval = "" if comparison.verdict in (UNKNOWN, INACTIVE) else "no variation"
    if comparison.has_interval:
        interval = f"[{difference.low:+{show}}, {difference.high:+{show}}]"
    return [
        f"  {comparison.baseline}",
        f"{comparison.value:{show}}",
        comparison.verdict,
        f"{difference.mean:+{show}}",
        interval,
        comparison.share_in_percent,
    ]


def _summaries(comparisons: Sequence[Comparison], controls: Mapping[str, str]) -> Iterator[str]:
    """Say what the published SAE does to each control, and what that controls for."""
    for control in in_order(comparison.baseline for comparison in comparisons if comparison.n_draws):
        clause = f" (controls for: {controls[control]})" if controls.get(control) else ""
        yield summary(control, comparisons) + clause


def _legend(comparisons: Sequence[Comparison], margin: float) -> Iterator[str]:
    n = max(comparison.difference.n_compared for comparison in comparisons)
    subject = comparisons[0].subject
    several = f", for the {n} controls of a metric at once" if n > 1 else ""
    others = "; for others one by one" if n > 1 and any(not comparison.is_random for comparison in comparisons) else ""
    yield f"difference: {subject} minus the mean over draws of a control [{LEVEL:.0%} interval{several}{others}]"
    yield (
        f"the interval of a control with several draws is a prediction interval: it holds 0 where {subject} could "
        "be one more draw"
    )
    yield f"share: the control's value above its floor as a share of that of {subject}"
    yield words_legend(subject, margin)


def _limits(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Say once over what the intervals are, and what limits some of them."""
    with_interval = [one for one in comparisons if one.verdict not in (UNKNOWN, INACTIVE)]
    draws = sorted({one.n_draws for one in with_interval if one.n_draws > 1})
    if draws:
        counts = f"{draws[0]}" if len(draws) == 1 else f"{draws[0]} to {draws[-1]}"
        yield (
            f"intervals are over {counts} draws of a control and evaluation items, and of a control of one draw over "
            f"items alone: they say nothing of how another {noun()} would come out that was trained like this one"
        )
    elif with_interval:
        yield f"intervals are over evaluation items: they say nothing of how another {noun()} would come out"
    if any(one.has_one_degree and one.n_draws == 2 for one in with_interval):
        yield "two draws: one degree of freedom, so that intervals are many times wider than with three"
    if any(not one.varies for one in with_interval):
        yield "no variation: draws or items all have the same difference, so nothing says how sure it is"
