"""Whether the latents that other seeds have too are the better ones."""

from collections.abc import Iterator, Sequence

from sae_lightning.figures.chart import Table
from sae_lightning.figures.stability import stability_chart
from sae_lightning.members import TRAINED, policy_title
from sae_lightning.nouns import nouns
from sae_lightning.report.section import Group, Section
from sae_lightning.runs import Run
from sae_lightning.verdict.stable_latents import (
    CHANCE,
    QUESTION,
    StableLatents,
    in_words,
    legend,
    stable_latents,
    table,
)


def stability(run: Run) -> Iterator[Section]:
    """Show how stable single latents are, and how that goes with what else was measured of them."""
    charts = [chart for part in run.parts if (chart := stability_chart(run, part)) is not None]
    lead = (
        f"How near the nearest latent in {nouns()} of other seeds is to a latent of this one. A frozen decoder has "
        "random directions, which are as stable as chance makes them."
    )
    if charts:
        yield Section("stability", "Stable latents", lead, [Group(charts=charts), *_better(run)])


def _better(run: Run) -> Iterator[Group]:
    """Ask whether stable latents are the better ones, where single latents were measured."""
    if results := stable_latents([run.measurements.by_size()]):
        yield Group(QUESTION, f"{legend()}.", tables=[_in_words(results)], folded=[_numbers(results)])


def _in_words(results: Sequence[StableLatents]) -> Table:
    head = ["", policy_title(TRAINED), f"{policy_title(CHANCE)}, whose stability is chance"]
    rows = [[label, said, chance or "-"] for label, said, chance in in_words(results)]
    return Table("Do stable latents have more of what was measured?", head, rows, prose=True)


def _numbers(results: Sequence[StableLatents]) -> Table:
    head, *rows = table(results)
    return Table("The same for every policy", ["", *map(policy_title, head[1:])], rows)
