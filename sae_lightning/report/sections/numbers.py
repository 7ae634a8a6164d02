"""Every number: means over seeds and their deviation, a table for each question."""

from collections.abc import Iterator

from sae_lightning.figures.chart import Table
from sae_lightning.figures.verdict import by_question
from sae_lightning.members import in_order, policy_title
from sae_lightning.nouns import a_noun
from sae_lightning.report.section import Group, Section
from sae_lightning.runs import Experiment, Run, describing
from sae_lightning.tables import number_format
from sae_lightning.verdict.text import floor_text, mean_and_deviation


def numbers(run: Run) -> Iterator[Section]:
    """Show every metric of the last validation."""
    lead = (
        "The last validation, as in metrics.jsonl: mean ± sample standard deviation over seeds; the floor is "
        f"{a_noun()} that does nothing, or chance."
    )
    yield Section("numbers", "Every number", lead, [Group(folded=number_tables(Experiment([run], run.title)))])


def number_tables(experiment: Experiment) -> list[Table]:
    """Lay out all metrics of an experiment, a table for each question."""
    values, floors = experiment.values(), experiment.floors()
    runs = experiment.measured
    tables = []
    for question, tags in by_question(runs, values).items():
        policies = in_order(policy for tag in tags for policy in values[tag])
        rows = []
        for tag in tags:
            show = number_format([*(value for seeds in values[tag].values() for value in seeds), floors.get(tag)])
            cells = [mean_and_deviation(values[tag].get(policy, ()), show) for policy in policies]
            label, floor = describing(runs, tag).label(tag), floor_text(experiment, tag, show)
            rows.append([str(tag), label, floor, *cells])
        tables.append(Table(question.text, ["metric", "", "floor", *map(policy_title, policies)], rows))
    return tables
