"""What is said of a metric, by the evaluator that measures it and in one place.

`Metric` travels with the values: an evaluator declares it, `metrics.jsonl` keeps it, and tables, the verdict,
TensorBoard and the page read it there. Nothing else knows metrics by name.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Question:
    """What several metrics ask of an SAE; the page shows them together.

    Args:
        name: an identifier, for links.
        text: the question.
        order: questions stand on the page in ascending order.
        title: heading of the section with the metrics that have no verdict; by default the question.
        lead: what that section shows and how to read it.
    """

    name: str
    text: str
    order: int
    title: str = ""
    lead: str = ""


@dataclass(frozen=True)
class Metric:
    """One metric.

    Args:
        name: as it is logged and kept in files.
        label: in plain words, for headings.
        question: what it asks.
        better: which way is better; None where neither is, and then there is no verdict.
        unit: of the values; empty for a share, a cosine or another pure number.
        floor: whose score the floor is.
        computed: how it is computed, in one sentence.
        is_headline: shown for its question on the first screen; fixed here, so never chosen by its result.
    """

    name: str
    label: str
    question: Question
    better: Literal["higher", "lower"] | None = None
    unit: str = ""
    floor: str = ""
    computed: str = ""
    is_headline: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return plain values, without the name and what is empty."""
        values = {key: value for key, value in asdict(self).items() if value not in ("", None, False)}
        del values["name"]
        return values | {"question": {key: value for key, value in asdict(self.question).items() if value != ""}}

    @classmethod
    def from_json(cls, name: str, values: Mapping[str, Any]) -> "Metric":
        """Read what `as_json` returned."""
        return cls(name, **{**values, "question": Question(**values["question"])})


NOT_CONVERGED_ABOVE = 0.01
"""Above this the metric `loss_fall`, the share of itself by which the training loss still falls in a tenth of the run,
says that an SAE had not converged."""

MARGIN = 0.05
"""Differences within this share of what the trained SAE has above the floor are called equivalent."""

OTHER = Question("other", "What else was measured?", order=1000)
"""Of a metric about which its run says nothing."""


def undescribed(name: str, better: Literal["higher", "lower"] | None = None) -> Metric:
    """Return the description of a metric about which its run says nothing, as runs of older versions do.

    >>> undescribed("of_my_own").label
    'Of my own'
    """
    plain = name.replace("_", " ")
    return Metric(name, plain[:1].upper() + plain[1:], OTHER, better)
