"""What a check comes to: for each question one word and a sentence, and what the comparison cannot say."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_CLOSE_L0 = 0.02
"""A control whose l0 is off by more than this share is named."""


def questions_of(metrics: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Answer each question by its headline metric.

    Args:
        metrics: of one SAE, as `check.json` has them.
    """
    questions = []
    for name, metric in metrics.items():
        if metric["is_headline"] and metric["better"] and metric["controls"]:
            word, sentence = _answer(metric)
            about = {"name": metric["question_name"], "text": metric["question"], "metric": name}
            questions.append({**about, "word": word, "sentence": sentence})
    return questions


def _answer(metric: Mapping[str, Any]) -> tuple[str, str]:
    """Return yes if it beats every control, no if it is worse than or as good as one, else unclear."""
    by_verdict: dict[str, list[str]] = {}
    for control in metric["controls"].values():
        by_verdict.setdefault(control["verdict"], []).append(control["label"])
    label, n = metric["label"], len(metric["controls"])
    beaten = len(by_verdict.get("beats", ()))
    parts = [
        f"{words} {_listed(by_verdict[verdict])}"
        for verdict, words in (
            ("loses", "worse than"),
            ("equivalent", "as good as"),
            ("unclear", "not told from"),
            ("unknown", "without an interval beside"),
        )
        if verdict in by_verdict
    ]
    sentence = f"{label}: better than {'all' if beaten == n else beaten if beaten else 'none'} of {n} controls"
    sentence += f", {'; '.join(parts)}." if parts else "."
    if beaten == n:
        return "yes", sentence
    if "loses" in by_verdict or "equivalent" in by_verdict:
        return "no", sentence
    return ("unclear" if "unclear" in by_verdict else "unknown"), sentence


def _listed(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


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
