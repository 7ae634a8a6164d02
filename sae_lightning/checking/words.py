"""What a check comes to: for each question one word and a sentence, and what the comparison cannot say."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sae_lightning.verdict.comparison import BEATS, EQUIVALENT, INACTIVE, LOSES, UNCLEAR, UNKNOWN

_SAID = {
    LOSES: "worse than",
    EQUIVALENT: "as good as",
    UNCLEAR: "not told from",
    UNKNOWN: "without an interval beside",
}
_MOST_NAMED = 2
_CLOSE_L0 = 0.02
"""A control whose l0 is off by more than this share is named."""


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


def limits_of(
    stated: Mapping[str, Any],
    controls: Mapping[str, Mapping[str, Any]],
    doubts: Iterable[str],
    budget: Mapping[str, Any],
    notes: Iterable[str] = (),
) -> list[str]:
    """Say what the comparison cannot say.

    Args:
        stated: what the file says of its training.
        controls: of `check.json`, with how far their l0 is off.
        doubts: why it may have been read wrong.
        budget: for training.
        notes: what was left out or made smaller.
    """
    limits = [f"It may be read wrong: {doubt}." for doubt in doubts]
    if budget["kind"] == "nulls":
        limits.append(
            "Nothing was trained: whether training it again beats its frozen twins takes --budget 'tokens N'."
        )
    if not stated.get("dataset"):
        limits.append("Its file does not say on which text it was trained; on other text it may score otherwise.")
    off = {one["label"]: one["l0_off"] for one in controls.values() if one["l0_off"] is not None}
    if off:
        label, largest = max(off.items(), key=lambda pair: abs(pair[1]))
        where = f" ({label})" if abs(largest) > _CLOSE_L0 else ""
        limits.append(f"The l0 of controls is that of the SAE within {abs(largest):.1%}{where}.")
    limits.append("It is one SAE: intervals are over held-out data and draws of the controls, not over training.")
    return [*limits, *notes]
