"""One screen of 80 columns: is the SAE read right, what does it score, and does it beat its controls?"""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from sae_lightning.checking.words import noun_of, variant_in_words

WIDTH = 80
_GAP = "  "
_L0, _LEAST_LABEL, _MOST_COLUMNS = 4, 14, 3
_WORDS = {"equivalent": "equal", "inactive": "same"}


@dataclass(frozen=True)
class _Column:
    """What one metric says of the controls.

    Args:
        label: of the metric.
        cells: by control.
    """

    label: str
    cells: Sequence[str]

    @classmethod
    def of(cls, metric: Mapping[str, Any], names: Iterable[str]) -> "_Column":
        return cls(metric["label"], [_cell(metric, name) for name in names])

    @property
    def width(self) -> int:
        """Of the longest cell, and of the longest word of the label: no word is cut."""
        return max(map(len, [*self.cells, *self.label.split()]))


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
    yield _end_of(sae["where"])
    yield from _wrapped(_title(sae))
    if noun_of(sae) == "transcoder" and check["data"].get("hook"):
        yield from _wrapped(f"Reads        {check['data']['hook']}", indent=2)
        yield from _wrapped(f"Answers at   {check['data'].get('target')}", indent=2)
    yield from _wrapped(f"Read right?  {sae['read_right']}", indent=2)
    yield from _wrapped(f"Scores       {_scores(check, sae)}", indent=2)
    if sae["metrics"] and sae["controls"]:
        yield from _tables(sae)
    if sae["null_data"]:
        cells = [f"{name} {_value(own['explained_variance'])}" for name, own in sae["null_data"].items()]
        yield from _wrapped(f"Explained variance of null data: {', '.join(cells)}", indent=2)
    yield ""
    yield from _answers("Does it beat its controls?", sae["questions"])
    if sae["remake"]:
        tokens = sae["remake"]["budget_tokens"]
        yield from _answers(f"Does a re-make on {tokens:,} tokens beat its twins?", sae["remake"]["questions"])
    yield "What this cannot say"
    for limit in sae["limits"]:
        yield from _wrapped(f"- {limit}", indent=2)


def _title(sae: Mapping[str, Any]) -> str:
    width, has = f"width {sae['d_in']}", " with"
    if noun_of(sae) == "transcoder":
        width, has = f"from width {sae['d_in']} to {sae['d_out']}", " and" if sae["skip"] else " with"
    return f"{variant_in_words(sae)}{has} {sae['d_sae']:,} latents, {width}, {sae['format']}"


def _answers(title: str, questions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield title
    longest = max((len(question["word"]) for question in questions), default=0)
    for question in questions:
        yield from _wrapped(f"{question['word'].upper():<{longest}}  {question['sentence']}", indent=longest + 2)


def _scores(check: Mapping[str, Any], sae: Mapping[str, Any]) -> str:
    l0 = "-" if sae["l0"] is None else f"{sae['l0']:.4g}"
    values = [
        f"{metric['label'][:1].lower()}{metric['label'][1:]} {_value(metric['value'])}"
        for metric in headline_metrics(sae).values()
    ]
    return f"l0 {l0}; {', '.join(values)}; on {check['data']['n_tokens']:,} held-out activations"


def _tables(sae: Mapping[str, Any]) -> Iterator[str]:
    """Lay out a row a control and a column a metric, in as many tables as the width takes."""
    columns = [_Column.of(metric, sae["controls"]) for metric in headline_metrics(sae).values()]
    while columns:
        shown = columns[:_MOST_COLUMNS]
        while len(shown) > 1 and _left(shown) < _LEAST_LABEL:
            shown.pop()
        yield ""
        yield from _table(sae["controls"], shown, f"{noun_of(sae)} minus control")
        columns = columns[len(shown) :]


def _table(controls: Mapping[str, Mapping[str, Any]], columns: Sequence[_Column], corner: str) -> Iterator[str]:
    """Lay out one table; heads and names of controls take several lines where one is too short."""
    longest = max(len(control["label"]) for control in controls.values())
    width = min(max(longest, len(corner)), max(_left(columns), _LEAST_LABEL))
    heads = [textwrap.wrap(corner, width), ["l0"], *(textwrap.wrap(one.label, one.width) for one in columns)]
    widths = [width, _L0, *(one.width for one in columns)]
    yield from _row(heads, widths)
    for number, control in enumerate(controls.values()):
        l0 = "-" if control["l0"] is None else f"{control['l0']:.3g}"
        label = textwrap.wrap(control["label"], width, subsequent_indent="  ")
        yield from _row([label, [l0], *([one.cells[number]] for one in columns)], widths)


def _row(cells: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    for lines in zip_longest(*cells, fillvalue=""):
        label, l0, *rest = lines
        texts = [label.ljust(widths[0]), l0.rjust(widths[1]), *map(str.ljust, rest, widths[2:])]
        yield _GAP.join(texts).rstrip()


def _left(columns: Sequence[_Column]) -> int:
    """Return the columns of the screen that these leave for the names of controls."""
    return WIDTH - _L0 - len(_GAP) - sum(one.width + len(_GAP) for one in columns)


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


def _end_of(path: str) -> str:
    """Shorten a path from the left, where it can be at a slash."""
    if len(path) <= WIDTH:
        return path
    end = path[3 - WIDTH :]
    return f"...{end[end.find('/') :] if '/' in end else end}"


def _wrapped(text: str, indent: int = 0) -> Iterator[str]:
    yield from textwrap.wrap(text, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)
