"""Runs become the text of one HTML file: nothing in it is loaded from elsewhere."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape

from sae_lightning import __version__
from sae_lightning.figures.chart import Chart, Table
from sae_lightning.figures.svg import style_sheet, svg_of
from sae_lightning.metric import MARGIN
from sae_lightning.nouns import noun, nouns, speaking_of
from sae_lightning.report.answer import Answer, answer
from sae_lightning.report.comparison import comparison, title_of
from sae_lightning.report.marks import legend, styles_of, with_others
from sae_lightning.report.provenance import provenance
from sae_lightning.report.section import Section
from sae_lightning.report.sections import sections_of
from sae_lightning.report.sections.numbers import number_tables
from sae_lightning.runs import Experiment, Run
from sae_lightning.verdict import decide
from sae_lightning.verdict.statistics import LEVEL

_ENVIRONMENT = Environment(
    loader=PackageLoader("sae_lightning.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)
_ENVIRONMENT.filters["breakable"] = lambda text: Markup(str(escape(text)).replace("/", "/<wbr>"))  # names of runs
_CHART_CSS = "/* of the charts */"
"""Stands where their style sheet goes, which is known when all of them are drawn."""


@dataclass(frozen=True)
class RunPage:
    """A run as the template takes it.

    Args:
        name: for links.
        title: of the run.
        answer: its verdict.
        about: names and values of where its numbers come from.
        config: its configuration as text.
        first: sections that stand before the verdict.
        sections: the rest.
    """

    name: str
    title: str
    answer: Answer
    about: Sequence[tuple[str, str]]
    config: str
    first: Sequence[Section]
    sections: Sequence[Section]


@dataclass(frozen=True)
class ExperimentPage:
    """Runs of one experiment as the template takes them.

    Args:
        title: names of the runs.
        answer: the verdict of all of them together.
        notes: what counts once, and how it differs from other experiments.
        tables: means and deviations of every metric.
    """

    title: str
    answer: Answer
    notes: Sequence[str]
    tables: Sequence[Table]


def page(
    experiments: Sequence[Experiment],
    explorer: dict[str, Any] | None = None,
    margin: float = MARGIN,
    first_sections: Callable[[Run], Sequence[Section]] = lambda run: (),
) -> str:
    """Make the page.

    Args:
        experiments: one or more.
        explorer: context of the latent explorer; None leaves it out.
        margin: differences within this share of what the trained SAE has above the floor are equivalent.
        first_sections: returns what stands before the verdict of a run.
    """
    with speaking_of(run.noun for experiment in experiments for run in experiment.runs):
        return _page(experiments, explorer, margin, first_sections)


def _page(
    experiments: Sequence[Experiment],
    explorer: dict[str, Any] | None,
    margin: float,
    first_sections: Callable[[Run], Sequence[Section]],
) -> str:
    numbers, classes = count(1), dict[str, str]()
    runs = [run for experiment in experiments for run in experiment.runs]
    several = experiments if len(runs) > 1 else []
    run_pages = [_run_page(run, f"run{number}-", margin, first_sections(run)) for number, run in enumerate(runs, 1)]
    together = comparison(several)
    compared = [
        ExperimentPage(title_of(own), answer(own, decide(own.measurements, margin)), own.notes, number_tables(own))
        for own in several
    ]
    pages: list[RunPage | ExperimentPage] = [*run_pages, *compared]
    charts = [*(chart for group in together for chart in group.charts), *chain.from_iterable(map(_charts_of, pages))]
    styles = with_others(styles_of(runs), charts)
    context = {
        "runs": run_pages,
        "experiments": compared,
        "together": together,
        "notes": [] if several else [note for own in experiments for note in own.notes],
        "level": f"{LEVEL:.0%}",
        "margin": f"{margin * 100:g} %",
        "version": __version__,
        "noun": noun(),
        "nouns": nouns(),
        "noun_title": noun()[:1].upper() + noun()[1:],
        "explorer": explorer,
        "inline": inline,
        "svg": lambda chart, has_legend: svg_of(chart, f"c{next(numbers)}", styles, has_legend, classes),
        "chart_css": Markup(_CHART_CSS),
        "legend": lambda charts: legend(charts, styles),
    }
    html = _ENVIRONMENT.get_template("page.html.j2").render(context)
    return html.replace(_CHART_CSS, style_sheet(classes), 1)


def inline(name: str) -> Markup:
    """Return a file of the templates as it is: a style or a script of our own."""
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))


def _run_page(run: Run, name: str, margin: float, first: Sequence[Section]) -> RunPage:
    experiment = Experiment([run], run.title)
    comparisons = decide(experiment.measurements, margin)
    verdict = answer(experiment, comparisons)
    return RunPage(name, run.title, verdict, provenance(run), run.config, first, sections_of(run, comparisons))


def _charts_of(shown: RunPage | ExperimentPage) -> Iterator[Chart]:
    yield from shown.answer.headlines
    for others in shown.answer.others.values():
        yield from others
    if isinstance(shown, RunPage):
        for section in (*shown.first, *shown.sections):
            for group in section.groups:
                yield from group.charts
