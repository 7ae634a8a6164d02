"""What a check comes to: for each question one word and a sentence; and what the checked SAE is called."""

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


def noun_of(sae: Mapping[str, Any]) -> str:
    """Return what an SAE of `check.json` is called in a sentence: SAE, or transcoder."""
    return str(sae.get("kind", "SAE"))  # checks of before there were transcoders do not say


def noun_of_all(saes: Iterable[Mapping[str, Any]]) -> str:
    """Return what several are called: transcoders where all of them are, else SAEs; in the singular."""
    return "transcoder" if all(noun_of(sae) == "transcoder" for sae in saes) else "SAE"


def variant_in_words(sae: Mapping[str, Any]) -> str:
    """Name the variant of an SAE of `check.json`.

    >>> variant_in_words({"variant": "TopK"})
    'TopK'
    >>> variant_in_words({"variant": "TopK", "kind": "transcoder", "skip": True})
    'TopK transcoder with a skip path'
    """
    noun = noun_of(sae)
    return sae["variant"] + f" {noun}" * (noun != "SAE") + " with a skip path" * bool(sae.get("skip"))


def place_in_words(hook: str | None, target: str | None) -> str | None:
    """Return where activations are from: one hook, or both of a transcoder.

    >>> place_in_words("layers.1", None), place_in_words("layers.1.ln", "layers.1.mlp")
    ('layers.1', 'layers.1.ln -> layers.1.mlp')
    """
    return hook if target is None else f"{hook} -> {target}"


def questions_of(metrics: Mapping[str, Mapping[str, Any]], others: str = "controls") -> list[dict[str, Any]]:
    """Answer each question by its headline metric.

    Args:
        metrics: of one SAE, as `check.json` has them.
        others: what it is compared with, in words.
    """
    questions = []
    for name, metric in metrics.items():
        controls = [control for control in metric["controls"].values() if control["verdict"] != INACTIVE]
        against = [control for control in controls if not control.get("is_bound")]
        if metric["is_headline"] and metric["better"] and against:
            word, sentence = _answer(metric["label"], against, others)
            sentence += "".join(_of_bound(control) for control in controls if control.get("is_bound"))
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


def _of_bound(control: Mapping[str, Any]) -> str:
    """Say on which side of a control it is that is shown the target; it decides nothing, since no transcoder is."""
    words = {BEATS: "better than", **_SAID}[control["verdict"]]
    return f" It is {words} {control['label']}, a bound that is shown the target."


def _listed(names: Sequence[str]) -> str:
    """Name a few, and count many; there are commas in some names."""
    return "; ".join(names) if len(names) <= _MOST_NAMED else f"{len(names)}"
