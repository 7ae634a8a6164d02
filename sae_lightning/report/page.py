"""Run folders become the text of one HTML file: nothing in it is loaded from elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from sae_lightning import __version__
from sae_lightning.compare import Values, group, short_names, tables
from sae_lightning.compare import verdict as verdict_of
from sae_lightning.report.answer import Answer, answer
from sae_lightning.report.figure import Table, mean_and_spread
from sae_lightning.report.provenance import provenance
from sae_lightning.report.run import ReportRun
from sae_lightning.report.sections import Section, sections
from sae_lightning.report.words import QUESTIONS, RANDOM, in_order, label, policy_label
from sae_lightning.tables import number_format
from sae_lightning.verdict.statistics import LEVEL

_ENVIRONMENT = Environment(
    loader=PackageLoader("sae_lightning.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


@dataclass(frozen=True)
class RunPage:
    """A run as the template takes it.

    Args:
        name: for links.
        title: of the run.
        answer: its verdict.
        about: names and values of where its numbers come from.
        config: its configuration as text.
        sections: the rest.
    """

    name: str
    title: str
    answer: Answer
    about: Sequence[tuple[str, str]]
    config: str
    sections: Sequence[Section]


@dataclass(frozen=True)
class Experiment:
    """Runs that differ in seeds and policies alone.

    Args:
        title: names of the runs.
        answer: the verdict of all of them together.
        members: the policies that are shown at a glance: trained and random ones, of a family all sizes.
        means: over seeds, by metric and policy.
        table: means and spreads of every metric.
    """

    title: str
    answer: Answer
    members: Sequence[str]
    means: Mapping[str, Mapping[str, float]]
    table: Table


def page(runs: Sequence[ReportRun], explorer: dict[str, Any] | None = None) -> str:
    """The page.

    Args:
        runs: one or more.
        explorer: context of the latent explorer; None leaves it out.
    """
    pages = []
    for number, run in enumerate(runs, 1):
        found = answer([run.measured], run.comparisons, str(run.folder))
        pages.append(RunPage(f"run{number}-", run.title, found, provenance(run), run.config, sections(run)))
    experiments = _experiments(runs) if len(runs) > 1 else []
    context = {
        "runs": pages,
        "experiments": experiments,
        "glance": _glance(experiments) if experiments else None,
        "level": f"{LEVEL:.0%}",
        "version": __version__,
        "explorer": explorer,
        "inline": inline,
    }
    return _ENVIRONMENT.get_template("page.html.j2").render(context)


def inline(name: str) -> Markup:
    """A file of the templates as it is: a style or a script of our own."""
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))


def _experiments(runs: Sequence[ReportRun]) -> list[Experiment]:
    groups = group([run.measured for run in runs])
    names = short_names([run.folder for run in runs])
    found = []
    for of, (labelled, floors) in zip(groups, tables(groups), strict=True):
        values = {
            metric: {policy.split(" ")[0]: seeds for policy, seeds in by_policy.items()}  # their runs are named above
            for metric, by_policy in labelled.items()
        }
        title = " + ".join(names[run.folder] for run in of)
        verdict = answer(of, verdict_of(of), f"comparison {title}")
        members = list(dict.fromkeys(policy for run in of for policy in run.sizes)) or ["trained", *RANDOM]
        found.append(Experiment(title, verdict, members, _means(values), _table(values, floors)))
    return found


def _means(values: Values) -> dict[str, dict[str, float]]:
    kept = {
        metric: {policy: [value for value in of if value is not None] for policy, of in by_policy.items()}
        for metric, by_policy in values.items()
    }
    return {metric: {policy: fmean(of) for policy, of in found.items() if of} for metric, found in kept.items()}


def _glance(experiments: Sequence[Experiment]) -> Table:
    """Experiments under each other, with the metrics of the first screen that most have."""
    metrics = [of.headline for of in QUESTIONS if any(of.headline in found.means for found in experiments)]
    rows = []
    for of in experiments:
        for policy in of.members:
            cells = [of.means.get(metric, {}).get(policy) for metric in metrics]
            if any(cell is not None for cell in cells):
                shown = ["-" if cell is None else f"{cell:{number_format([cell])}}" for cell in cells]
                rows.append([of.title, policy_label(policy), *shown])
    return Table("Means over seeds, one metric for each question", ["experiment", "", *map(label, metrics)], rows)


def _table(values: Values, floors: Mapping[str, float | None]) -> Table:
    """As ``sae compare`` prints it."""
    policies = in_order(policy for of in values.values() for policy in of)
    rows = []
    for metric, of in values.items():
        floor = floors.get(metric)
        show = number_format([*(value for found in of.values() for value in found), floor])
        cells = (mean_and_spread(found, show) for found in ([floor], *(of.get(name, ()) for name in policies)))
        rows.append([metric, *cells])
    return Table("Mean ± sample standard deviation over seeds", ["metric", "floor", *map(policy_label, policies)], rows)
