"""One screen of 80 columns: is the SAE read right, what does it score, and does it beat its controls?"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

WIDTH = 80
_CELL = 21
_WORDS = {"equivalent": "equal", "inactive": "same"}
_MOST_LIMITS = 8


def screen(check: Mapping[str, Any]) -> str:
    """Return what a check has found, a screen for each SAE.

    Args:
        check: content of `check.json`.
    """
    return "\n\n".join("\n".join(_lines(check, sae)) for sae in check["saes"])


def headline_metrics(sae: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the metrics of one SAE of `check.json` that answer a question."""
    return {name: metric for name, metric in sae["metrics"].items() if metric["is_headline"] and metric["better"]}


def control_cells(metrics: Mapping[str, Mapping[str, Any]], name: str) -> list[str]:
    """Return what each metric says of one control: the SAE minus it, half the interval, and the word."""
    return [_cell(metric, name) for metric in metrics.values()]


def _lines(check: Mapping[str, Any], sae: Mapping[str, Any]) -> Iterator[str]:
    title = f"{sae['variant']} with {sae['d_sae']:,} latents, width {sae['d_in']}, {sae['format']}"
    yield from _wrapped(f"{sae['where']}\n{title}")
    yield from _wrapped(f"Read right?  {sae['read_right']}", indent=2)
    yield from _wrapped(f"Scores       {_scores(check, sae)}", indent=2)
    if sae["metrics"] and sae["controls"]:
        yield ""
        yield from _table(sae)
    if sae["null_data"]:
        cells = [f"{name} {_value(own['explained_variance'])}" for name, own in sae["null_data"].items()]
        yield from _wrapped(f"Explained variance of null data: {', '.join(cells)}", indent=2)
    yield ""
    yield from _answers("Does it beat its controls?", sae["questions"])
    if sae["remake"]:
        tokens = sae["remake"]["budget_tokens"]
        yield from _answers(f"Does a re-make on {tokens:,} tokens beat its twins?", sae["remake"]["questions"])
    yield "What this cannot say"
    for limit in sae["limits"][:_MOST_LIMITS]:
        yield from _wrapped(f"- {limit}", indent=2)


def _answers(title: str, questions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield title
    longest = max((len(question["word"]) for question in questions), default=0)
    for question in questions:
        yield from _wrapped(f"{question['word'].upper():<{longest}}  {question['sentence']}", indent=longest + 2)


def _scores(check: Mapping[str, Any], sae: Mapping[str, Any]) -> str:
    l0 = "-" if sae["l0"] is None else f"{sae['l0']:.4g}"
    values = [f"{metric['label'].lower()} {_value(metric['value'])}" for metric in headline_metrics(sae).values()]
    return f"l0 {l0}; {', '.join(values)}; on {check['data']['n_tokens']:,} held-out activations"


def _table(sae: Mapping[str, Any]) -> Iterator[str]:
    """Lay out a row a control, and for each headline metric value, difference with half the interval, and word."""
    metrics = headline_metrics(sae)
    longest = max(len(control["label"]) for control in sae["controls"].values())
    per_line = max(1, (WIDTH - longest - 6) // (_CELL + 2))
    names = list(metrics)
    for begin in range(0, len(names), per_line):
        shown = {name: metrics[name] for name in names[begin : begin + per_line]}
        heads = "  ".join(f"{_shortened(metric['label']):<{_CELL}}" for metric in shown.values())
        yield f"{'SAE minus control':<{longest}}  {'l0':>4}  {heads}".rstrip()
        for name, control in sae["controls"].items():
            l0 = "-" if control["l0"] is None else f"{control['l0']:.3g}"
            cells = "  ".join(f"{cell:<{_CELL}}" for cell in control_cells(shown, name))
            yield f"{control['label']:<{longest}}  {l0:>4}  {cells}".rstrip()


def _shortened(label: str) -> str:
    return textwrap.shorten(label, _CELL, placeholder="...")


def _cell(metric: Mapping[str, Any], name: str) -> str:
    """Return the SAE minus a control, half the interval, and the word."""
    against = metric["controls"].get(name)
    if against is None:
        return "-"
    show = f".{_decimals([metric['value'], against['value'], metric['floor']])}f"
    text = f"{against['difference']:+{show}}"
    if against["interval"] is not None:
        text += f"±{(against['interval'][1] - against['interval'][0]) / 2:{show}}"
    return f"{text} {_WORDS.get(against['verdict'], against['verdict'])}"


def _decimals(values: Sequence[float | None]) -> int:
    """Return how many decimals three digits of the largest value take."""
    largest = max((abs(value) for value in values if value is not None), default=1.0)
    return 3 if largest < 10 else 2 if largest < 100 else 1 if largest < 1000 else 0


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _wrapped(text: str, indent: int = 0) -> Iterator[str]:
    for line in text.split("\n"):
        yield from textwrap.wrap(line, WIDTH, subsequent_indent=" " * indent, break_long_words=False)
