"""A check as the first section of the page of its run."""

from collections.abc import Iterator, Mapping
from typing import Any

from sae_lightning.checking.check_file import CHECK_FILE, read_check
from sae_lightning.checking.screen import control_cells, headline_metrics
from sae_lightning.checking.words import noun_of, noun_of_all
from sae_lightning.figures.chart import Table
from sae_lightning.members import policy_title
from sae_lightning.report.section import Group, Section
from sae_lightning.runs import Run

_LEAD = (
    "Each {noun} as it was published, beside controls for which nothing was trained, at its number of active latents. "
    "A cell has the {noun} minus the control, half the interval, and a word; the intervals of a metric hold for all "
    "controls at once."
)
_OF_TRANSCODERS = (
    " It reads {hook} and answers at {target}. What it explains is the variance of the target, and the loss of the "
    "model is measured with its answer there."
)


def check_sections(run: Run) -> list[Section]:
    """Return the section of a check; none of another run.

    Raises:
        ValueError: if its check.json is damaged.
    """
    path = run.file(CHECK_FILE)
    if not path.is_file():
        return []
    check = read_check(path)
    groups = [Group(sae["where"], sae["read_right"], tables=list(_tables(check, sae))) for sae in check["saes"]]
    lead = _LEAD.format(noun=noun_of_all(check["saes"]))
    if check["data"].get("target"):
        lead += _OF_TRANSCODERS.format(**check["data"])
    return [Section("check", "The check", lead, groups)]


def _tables(check: Mapping[str, Any], sae: Mapping[str, Any]) -> Iterator[Table]:
    metrics = headline_metrics(sae)
    if answers := _answers(sae["questions"]):
        yield Table("Does it beat its controls?", ["", "", ""], answers, prose=True)
    if sae["controls"] and metrics:
        head = ["control, and what it controls for", "l0", *(metric["label"] for metric in metrics.values())]
        own = [f"The {noun_of(sae)}", _number(sae["l0"]), *(_number(metric["value"]) for metric in metrics.values())]
        rows = [
            [
                ": ".join(filter(None, (policy_title(name), one["controls_for"]))),
                _number(one["l0"]),
                *control_cells(metrics, name),
            ]
            for name, one in sae["controls"].items()
        ]
        yield Table(f"The {noun_of(sae)} and its controls", head, [own, *rows])
    if sae["null_data"]:
        rows = [[name, *(_number(value) for value in values.values())] for name, values in sae["null_data"].items()]
        yield Table(f"The same {noun_of(sae)} on null data", ["", *_labels(sae)], rows)
    if remake := sae["remake"]:
        filled = "; ".join(f"{name} {value}" for name, value in remake["filled_in"].items())
        about = [
            ["trained on", f"{remake['budget_tokens']:,} activations"],
            ["the published one on", str(remake["published_budget"])],
            ["as published", ", ".join(remake["stated"])],
            ["filled in", filled],
        ]
        yield Table("The re-make", ["", ""], about, prose=True)
        yield Table("Does the re-make beat its frozen twins?", ["", "", ""], _answers(remake["questions"]), prose=True)
    limits = [[str(number), text] for number, text in enumerate(sae["limits"], 1)]
    yield Table("What this cannot say", ["", ""], limits, prose=True)


def _labels(sae: Mapping[str, Any]) -> list[str]:
    """Return the labels of what is measured on null data."""
    names = next(iter(sae["null_data"].values()))
    return [sae["metrics"][name]["label"] if name in sae["metrics"] else name for name in names]


def _answers(questions: list[Mapping[str, Any]]) -> list[list[str]]:
    return [[question["text"], question["word"], question["sentence"]] for question in questions]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
