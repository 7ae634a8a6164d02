"""What the headline metric of each question says, in a sentence: by how much, and where nothing can be told."""

from collections.abc import Iterator, Sequence

from sae_lightning.figures.verdict import headlines
from sae_lightning.members import Tag, policy_label
from sae_lightning.metric import Metric
from sae_lightning.runs import Measurements, describing
from sae_lightning.tables import number_format
from sae_lightning.verdict import Comparison
from sae_lightning.verdict.comparison import BEATS, EQUIVALENT, INACTIVE, LOSES, UNCLEAR, UNKNOWN
from sae_lightning.verdict.words import in_text, listed

_MOST_NAMED = 4
_WORDS = {
    EQUIVALENT: "as good as {}",
    UNCLEAR: "no clear difference from {}",
    LOSES: "worse than {}",
    UNKNOWN: "no interval against {}",
}


def points_of(
    runs: Sequence[Measurements], comparisons: Sequence[Comparison], references: Sequence[Comparison] = ()
) -> Iterator[tuple[str, str]]:
    """Yield each question with a sentence on its headline metric, of every part that has it.

    Args:
        runs: of one experiment.
        comparisons: of one SAE with its random baselines or controls.
        references: with what is no SAE; where that does better, it is said.
    """
    tags = headlines(runs, dict.fromkeys(comparison.tag for comparison in comparisons))
    better = [one for one in references if one.verdict == LOSES]
    for tag in tags:
        own = [one for one in comparisons if one.tag == tag and one.verdict != INACTIVE]
        if own:
            own += [one for one in better if one.tag == tag]
            metric = describing(runs, tag).metric(tag)
            yield metric.question.text, _sentence(metric, _label(runs, tag, tags), own)


def best_and_rest(runs: Sequence[Measurements], comparisons: Sequence[Comparison]) -> str:
    """Say on which headline metrics all baselines are beaten, on which some is better, and on which nothing is clear.

    Args:
        runs: of one experiment.
        comparisons: of one SAE with its random baselines or controls.
    """
    groups: dict[str, list[str]] = {"better": [], "some": [], "worse": [], "unclear": []}
    tags = headlines(runs, dict.fromkeys(comparison.tag for comparison in comparisons))
    for tag in tags:
        words = {one.verdict for one in comparisons if one.tag == tag} - {INACTIVE, UNKNOWN}
        if words:
            groups[_group(words)].append(in_text(_short_label(runs, tag, tags)))
    if set(filter(groups.get, groups)) == {"better"} and not comparisons[0].published:  # all metrics decide the word
        groups["others"] = _not_all_beaten(runs, [one for one in comparisons if one.tag not in tags])
    whom = "control" if comparisons[0].published else "random baseline"
    texts = {
        "better": f"better than every {whom} on {{}}",
        "some": f"better than some {whom}s on {{}}",
        "worse": f"worse than a {whom} on {{}}",
        "unclear": f"no clear difference from any {whom} on {{}}",
        "others": "but not on {}",
    }
    return "; ".join(text.format(listed(groups[name])) for name, text in texts.items() if groups.get(name))


def _not_all_beaten(runs: Sequence[Measurements], comparisons: Sequence[Comparison]) -> list[str]:
    """Name the metrics on which some baseline is not beaten, or count them where they are many."""
    left = [one for one in comparisons if one.verdict not in {BEATS, INACTIVE, UNKNOWN}]
    tags = list(dict.fromkeys(one.tag for one in left))
    labels = [in_text(_short_label(runs, tag, tags)) for tag in tags]
    return labels if len(labels) < _MOST_NAMED else [f"{len(labels)} other metrics"]


def _label(runs: Sequence[Measurements], tag: Tag, tags: Sequence[Tag]) -> str:
    """Name a metric, with its part where it has several."""
    describes = describing(runs, tag)
    return describes.label(tag) if len({other.part for other in tags}) > 1 else describes.metric(tag).label


def _short_label(runs: Sequence[Measurements], tag: Tag, tags: Sequence[Tag]) -> str:
    """Name a metric without what stands behind a comma, which in a list would look like one more."""
    metric = describing(runs, tag).metric(tag)
    name, _, _ = metric.label.partition(", ")
    return _label(runs, tag, tags).replace(metric.label, name)


def _group(words: set[str]) -> str:
    if LOSES in words:
        return "worse"
    if BEATS in words:
        return "better" if words == {BEATS} else "some"
    return "unclear"


def _sentence(metric: Metric, label: str, comparisons: Sequence[Comparison]) -> str:
    """Say what the SAE has, and then how it stands to each baseline, those with the same word together."""
    trained = comparisons[0].trained
    show = number_format([trained, *(one.value for one in comparisons)], is_short=True)
    parts = [_beaten(own, show) for own in [_with(comparisons, BEATS)] if own]
    for word, text in _WORDS.items():
        if own := _with(comparisons, word):
            parts.append(text.format(listed([_named(one, show) for one in own])))
    unit = f" {metric.unit}" if metric.unit else ""
    return f"{label} {trained:{show}}{unit}: {'; '.join(parts)}."


def _with(comparisons: Sequence[Comparison], verdict: str) -> list[Comparison]:
    return [one for one in comparisons if one.verdict == verdict]


def _beaten(comparisons: Sequence[Comparison], show: str) -> str:
    """Say by how much baselines are beaten; where there is a floor, in multiples of what they have above that."""
    if len(comparisons) > _MOST_NAMED:
        values = {one.baseline: one for one in comparisons}
        nearest = max(values.values(), key=lambda one: one.value if one.is_better_higher else -one.value)
        name = policy_label(nearest.baseline)
        return f"better than {len(comparisons)} of them, of which the {name} comes nearest ({nearest.value:{show}})"
    multiples = [one for one in comparisons if one.share is not None and one.share > 0 and one.is_better_higher]
    floor = next((one.floor for one in multiples if one.floor), None)
    above = "" if floor is None else f"above the floor of {floor:.3g}, "
    return above + ", ".join(_how_much(one, show) for one in comparisons)


def _how_much(one: Comparison, show: str) -> str:
    name = _named(one, show)
    if one.share is None or not one.is_better_higher:
        return f"better than {name}"
    if one.share <= 0:
        return f"better than {name}, which is not above the floor"
    return f"{times(1 / one.share)} {name}"


def times(ratio: float) -> str:
    """Say a ratio above 1 in words.

    >>> times(1.08), times(1.97), times(3.26), times(40.0)
    ('8 % more than', 'twice', '3.3 times', 'over 10 times')
    """
    if ratio < 1.5:
        return f"{100 * (ratio - 1):.2g} % more than"
    if ratio > 10:
        return "over 10 times"
    return "twice" if 1.95 <= ratio <= 2.05 else f"{ratio:.1f} times"


def _named(one: Comparison, show: str) -> str:
    return f"the {policy_label(one.baseline)} ({one.value:{show}})"
