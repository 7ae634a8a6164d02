"""The same metrics on activations and on noise."""

from collections.abc import Iterator
from dataclasses import replace

from sae_lightning.figures.chart import Chart
from sae_lightning.figures.dots import Dots
from sae_lightning.figures.training import sae_policies
from sae_lightning.figures.verdict import metric_chart
from sae_lightning.members import Tag, in_order
from sae_lightning.nouns import a_noun, nouns
from sae_lightning.report.section import Group, Section
from sae_lightning.runs import Run

_METRICS = ("explained_variance", "cosine_to_start_mean", "seed_pw_mcc")


def nulls(run: Run) -> Iterator[Section]:
    """Show SAEs on activations and on noise next to each other."""
    measured = run.measurements
    charts = [
        chart
        for tag in measured.values
        if tag.part in measured.nulls and tag.metric in _METRICS and (chart := _chart(run, tag)) is not None
    ]
    lead = (
        f"The same {nouns()}, trained on noise that keeps simple statistics of the activations. What {a_noun()} scores "
        "on noise as well says nothing of features."
    )
    if charts:
        yield Section("nulls", "On noise in place of activations", lead, [Group(charts=charts)])


def _chart(run: Run, tag: Tag) -> Chart | None:
    nulls = run.measurements.nulls
    parts = {own.part for own in run.measurements.values if own.part and own.part not in nulls}
    hook = next((part for part in parts if tag.part.endswith(f"_{part}")), "")  # nulls of several hooks name theirs
    real, noise = (metric_chart(run.measurements, own) for own in (Tag(tag.metric, hook), tag))
    if real is None or noise is None:
        return None
    saes, on_noise = sae_policies(run, tag.part), {row.policy: replace(row, noise=tag.part) for row in noise.rows}
    both = {row.policy: row for row in real.rows if row.policy in saes and row.policy in on_noise}
    rows = [row for policy in in_order(both) for row in (both[policy], on_noise[policy])]
    title = f"{real.title}: activations and {tag.part} noise"
    return Dots(title, rows, real.floor, name=str(tag)) if rows else None
