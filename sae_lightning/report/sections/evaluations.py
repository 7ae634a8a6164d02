"""What evaluators asked the SAEs: a section for each question that has one, with the metrics that have no verdict.

Title and lead come from the `Question` that the evaluator declares. Some metrics are better seen together than one by
one: `_VIEWS` draws these.
"""

from collections.abc import Callable, Iterator, Sequence

from sae_lightning.figures.chart import Chart
from sae_lightning.figures.interpretation import score_charts
from sae_lightning.figures.probing import probe_charts
from sae_lightning.figures.verdict import by_question, metric_chart
from sae_lightning.members import Tag
from sae_lightning.metric import OTHER
from sae_lightning.report.section import Group, Section
from sae_lightning.runs import Run
from sae_lightning.verdict import Comparison

_VIEWS: tuple[Callable[[Run, Sequence[Tag]], tuple[list[Chart], list[Tag]]], ...] = (probe_charts, score_charts)
"""Each takes the metrics of a question and returns charts, and the metrics that are in them."""


def evaluations(run: Run, comparisons: Sequence[Comparison]) -> Iterator[Section]:
    """Show metrics without a verdict, since those with one are shown before."""
    measurements = run.measurements
    compared = {comparison.tag.metric for comparison in comparisons}
    tags = [tag for tag in measurements.values if tag.part not in measurements.nulls]
    for question, own in by_question([measurements], tags).items():
        if not (question.title or question.lead or question == OTHER):
            continue
        charts, seen = [], set()
        for view in _VIEWS:
            drawn, together = view(run, own)
            charts += drawn
            seen.update(together)
        single = [tag for tag in own if tag.metric not in compared and tag not in seen]
        charts += [chart for tag in single if (chart := metric_chart(measurements, tag)) is not None]
        if charts:
            yield Section(question.name, question.title or question.text, question.lead, [Group(charts=charts)])
