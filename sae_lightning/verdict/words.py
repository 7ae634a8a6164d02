"""What tables of verdicts say in words, whatever stands in the place of the trained SAE."""

from collections import Counter
from collections.abc import Sequence

from sae_lightning.members import LINEAR_MAP, policy_label
from sae_lightning.nouns import noun
from sae_lightning.runs import Measurements, describing
from sae_lightning.tables import number_format
from sae_lightning.verdict.comparison import BEATS, EQUIVALENT, INACTIVE, LOSES, UNCLEAR, UNKNOWN, Comparison

CAN_TELL = "can tell: two measurements of the same, with an evaluator seed each, differ by less in 95 of 100 cases"
_SAID = {BEATS: "beats it on", EQUIVALENT: "is equivalent on", UNCLEAR: "is unclear on", LOSES: "loses on"}


def summary(baseline: str, comparisons: Sequence[Comparison]) -> str:
    """Count the words against one baseline in a sentence.

    Args:
        baseline: its name.
        comparisons: with it and with others, in one or more metrics.
    """
    own = [comparison for comparison in comparisons if comparison.baseline == baseline]
    counts = Counter(comparison.verdict for comparison in own)
    parts = [f"{words} {counts[verdict]}" for verdict, words in _SAID.items() if counts[verdict]]
    reasons = dict.fromkeys(comparison.inactive for comparison in own if comparison.inactive)
    if reasons and not parts and not counts[UNKNOWN]:
        return f"{baseline}: left out, {'; '.join(reasons)}"
    unknown = f" ({counts[UNKNOWN]} without an interval)" if counts[UNKNOWN] else ""
    inactive = f"; left out of {counts[INACTIVE]}, {'; '.join(reasons)}" if reasons else ""
    return f"{baseline}: {own[0].subject} {', '.join(parts) or 'cannot be compared'}{unknown}{inactive}"


def answer_word(comparisons: Sequence[Comparison]) -> str:
    """Return in a word whether an SAE beats what it is compared with.

    Args:
        comparisons: with random baselines, or with the controls of a published SAE; without those that are left out.
    """
    counts = Counter(comparison.verdict for comparison in comparisons)
    if not comparisons:
        return f"There is no other {noun()} to compare it with"
    decided = len(comparisons) - counts[UNKNOWN]
    if decided <= counts[UNKNOWN]:
        return "Too few draws or items to tell" if comparisons[0].published else "Too few seeds to tell"
    if counts[BEATS] == decided:
        return "Yes" if decided == len(comparisons) else "Yes, wherever it can be told"
    if comparisons[0].published and (counts[LOSES] or counts[EQUIVALENT]):
        return "No"  # of controls each has to be beaten: they are what chance and formulas reach
    if not counts[BEATS]:
        if not counts[LOSES]:
            return "It is as good as random" if counts[EQUIVALENT] == decided else "These data cannot tell"
        return "No"
    return "In part"


def words_legend(subject: str, margin: float) -> str:
    """Say what the words mean.

    Args:
        subject: what the SAE is called that is compared.
        margin: differences within this share of what it has above the floor are equivalent.
    """
    return (
        "beats, loses: the interval leaves out 0; unclear: it holds 0, and these data cannot tell; "
        f"equivalent: it lies within {margin * 100:g}% of what {subject} has above the floor"
    )


def worse_than_linear_map(runs: Sequence[Measurements], comparisons: Sequence[Comparison]) -> list[str]:
    """Say on which metrics the linear map does better, which needs no latents; nothing where it does not.

    Args:
        runs: of one experiment.
        comparisons: of the trained or published one with all that stands beside it.
    """
    lost = [one for one in comparisons if one.baseline == LINEAR_MAP and one.verdict == LOSES]
    show = number_format([value for one in lost for value in (one.trained, one.value)], is_short=True)
    several = len({one.tag.part for one in comparisons}) > 1
    metrics = []
    for one in lost:
        describes = describing(runs, one.tag)
        label = describes.label(one.tag) if several else describes.metric(one.tag).label
        metrics.append(f"{in_text(label)} ({one.trained:{show}} against {one.value:{show}})")
    return [f"worse than the {policy_label(LINEAR_MAP)} on {listed(metrics)}"] if metrics else []


def in_text(label: str) -> str:
    """Write the first letter small, unless it begins an abbreviation.

    >>> in_text("Explained variance"), in_text("F1 of firing")
    ('explained variance', 'F1 of firing')
    """
    return label if label[1:2].isupper() or label[1:2].isdigit() else label[:1].lower() + label[1:]


def listed(words: Sequence[str]) -> str:
    """Join words as a list in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)
