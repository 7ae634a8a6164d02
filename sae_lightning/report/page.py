"""Run folders become the text of one HTML file: nothing in it is loaded from elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from sae_lightning import __version__
from sae_lightning.compare import group, short_names, tables
from sae_lightning.compare import verdict as verdict_of
from sae_lightning.report.answer import Answer, answer
from sae_lightning.report.figure import Table, mean_and_spread
from sae_lightning.report.provenance import provenance
from sae_lightning.report.run import ReportRun
from sae_lightning.report.sections import Section, sections
from sae_lightning.report.words import in_order, policy_label
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
        table: means and spreads of every metric.
    """

    title: str
    answer: Answer
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
    context = {
        "runs": pages,
        "experiments": _experiments(runs) if len(runs) > 1 else [],
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
    for of, (values, floors) in zip(groups, tables(groups), strict=True):
        title = " + ".join(names[run.folder] for run in of)
        key = f"comparison {title}"
        found.append(Experiment(title, answer(of, verdict_of(of), key), _table(values, floors)))
    return found


def _table(values: Any, floors: Any) -> Table:
    """As ``sae compare`` prints it."""
    plain = {
        metric: {policy.split(" ")[0]: of for policy, of in by_policy.items()} for metric, by_policy in values.items()
    }
    policies = in_order(policy for of in plain.values() for policy in of)
    rows = []
    for metric, of in plain.items():
        floor = floors.get(metric)
        show = number_format([*(value for found in of.values() for value in found), floor])
        rows.append(
            [metric, *(mean_and_spread(found, show) for found in ([floor], *(of.get(name, ()) for name in policies)))]
        )
    return Table("Mean ± sample standard deviation over seeds", ["metric", "floor", *map(policy_label, policies)], rows)
