"""One table of marks and colours for all charts of a page, its legends and the latents."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sae_lightning.figures.chart import Chart
from sae_lightning.figures.look import CSS_PROPERTIES, MARKER_CHARACTERS
from sae_lightning.members import Style, in_order, policy_styles, policy_title
from sae_lightning.runs import Run


@dataclass(frozen=True)
class Mark:
    """What stands for a policy in text.

    Args:
        label: name in plain words.
        character: looks like its marker.
        colour: name of the custom property of the page.
    """

    label: str
    character: str
    colour: str


def styles_of(runs: Iterable[Run]) -> dict[str, Style]:
    """Return a style for every policy and reference that the runs have, under all their names."""
    measured = [one for run in runs for one in (run.measurements, run.measurements.by_size())]
    return policy_styles(member.policy for one in measured for values in one.values.values() for member in values)


def with_others(styles: Mapping[str, Style], charts: Iterable[Chart]) -> dict[str, Style]:
    """Add styles for what charts draw under a name that no run has."""
    others = [policy for chart in charts for policy in chart.policies if policy not in styles]
    return policy_styles(others) | dict(styles)


def mark_of(policy: str, styles: Mapping[str, Style], label: str = "") -> Mark:
    """Return the mark of a policy."""
    return _mark(label or policy_title(policy), styles[policy])


def _mark(label: str, style: Style) -> Mark:
    return Mark(label, MARKER_CHARACTERS.get(style.marker, "●"), CSS_PROPERTIES[style.colour.lower()])


def legend(charts: Sequence[Chart], styles: Mapping[str, Style]) -> list[Mark]:
    """Return the marks of all that several charts name in their legends, each once: policies, and then the rest."""
    labels = {policy: label for chart in charts for label, policy in chart.legend.items()}
    others = {label: style for chart in charts for label, style in chart.marks.items()}
    return [
        *(mark_of(policy, styles, labels[policy]) for policy in in_order(labels)),
        *(_mark(label, style) for label, style in others.items()),
    ]
