"""What tables of verdicts say in words, whatever stands in the place of the trained SAE."""

from collections import Counter
from collections.abc import Sequence

from sae_lightning.verdict.comparison import BEATS, EQUIVALENT, INACTIVE, LOSES, UNCLEAR, UNKNOWN, Comparison

CAN_TELL = (
    "can tell: two single measurements of one SAE, with an evaluator seed each, differ by less in 95 of 100 cases"
)
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
        return "There is no other SAE to compare it with"
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
