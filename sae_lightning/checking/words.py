"""What a check comes to: for each question one word and a sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

from sae_lightning.verdict.comparison import BEATS, EQUIVALENT, INACTIVE, LOSES, UNCLEAR, UNKNOWN

_SAID = {
    LOSES: "worse than",
    EQUIVALENT: "as good as",
    UNCLEAR: "not told from",
    UNKNOWN: "without an interval beside",
}
_MOST_NAMED = 2


def questions_of(metrics: Mapping[str, Mapping[str, Any]], others: str = "controls") -> list[dict[str, Any]]:
    """Answer each question by its headline metric.

    Args:
        metrics: of one SAE, as `check.json` has them.
        others: what it is compared with, in words.
    """
    questions = []
    for name, metric in metrics.items():
        against = [control for control in metric["controls"].values() if control["verdict"] != INACTIVE]
        if metric["is_headline"] and metric["better"] and against:
            word, sentence = _answer(metric["label"], against, others)
            about = {"name": metric["question_name"], "text": metric["question"], "metric": name}
            questions.append({**about, "word": word, "sentence": sentence})
    return questions


def _answer(label: str, against: Sequence[Mapping[str, Any]], others: str) -> tuple[str, str]:
    """Return yes if it beats all, no if it is worse than or as good as one, else unclear; and a sentence."""
    by_verdict: dict[str, list[str]] = {}
    for control in against:
        by_verdict.setdefault(control["verdict"], []).append(control["label"])
    n, beaten = len(against), len(by_verdict.get(BEATS, ()))
    parts = [f"{words} {_listed(by_verdict[verdict])}" for verdict, words in _SAID.items() if verdict in by_verdict]
    better = f"all {n}" if beaten == n else f"{beaten or 'none'} of {n}"
    sentence = f"{label}: better than {better} {others}" + (f"; {'; '.join(parts)}." if parts else ".")
    if beaten == n:
        return "yes", sentence
    if LOSES in by_verdict or EQUIVALENT in by_verdict:
        return "no", sentence
    return ("unclear" if UNCLEAR in by_verdict else "unknown"), sentence


def _listed(names: Sequence[str]) -> str:
    """Name a few, and count many; there are commas in some names."""
    return "; ".join(names) if len(names) <= _MOST_NAMED else f"{len(names)}"
