"""The sections of a run, each only where the run has its data."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sae_lightning.compare import POLICIES
from sae_lightning.density.activations import ALL_DIMENSIONS, WITHOUT_FIRST
from sae_lightning.figures import (
    RECOVERY,
    THRESHOLD,
    LeftOut,
    by_frequency,
    curves,
    data_of,
    frequency_bins,
    read_truth,
)
from sae_lightning.report.charts import Row, Series, dots, lines, rows_of
from sae_lightning.report.figure import Chart, Table, mean_and_spread
from sae_lightning.report.histograms import histogram
from sae_lightning.report.run import ReportRun
from sae_lightning.report.words import QUESTIONS, Question, in_order, label, policy_label, question_of
from sae_lightning.tables import number_format


@dataclass(frozen=True)
class Group:
    """Charts and tables that belong together.

    Args:
        title: empty for none.
        lead: a sentence before them.
        charts: drawn side by side.
        tables: under the charts.
        folded: tables that are shown when asked for.
    """

    title: str = ""
    lead: str = ""
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    folded: Sequence[Table] = ()


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Args:
        name: for links.
        title: its heading.
        lead: what it shows and how to read it.
        groups: one or more.
        text: kept as it is, with a title.
    """

    name: str
    title: str
    lead: str
    groups: Sequence[Group]
    text: tuple[str, str] | None = field(default=None)


def sections(run: ReportRun) -> list[Section]:
    """All that the run has, in the order of the page."""
    return [section for make in _SECTIONS if (section := make(run)) is not None]


def _training(run: ReportRun) -> Section | None:
    if len(run.lines) < 2:
        return None
    first = ("explained_variance", RECOVERY, "ce_recovered_mean", "l0", "dead_fraction", "cosine_to_start_mean")
    names = [name for name in run.measured.metrics if name.partition("@")[0] in first]
    charts = []
    for metric in sorted(names, key=lambda name: (name.partition("@")[2], first.index(name.partition("@")[0]))):
        found = curves(run.lines, metric)
        several = any(curve.least != curve.greatest for curve in found.values())
        series = [
            Series(of, found[of].samples, found[of].mean, *((found[of].least, found[of].greatest) if several else ()))
            for of in in_order(found)
            if of in POLICIES or len(found[of].samples) > 1
        ]
        series = [of for of in series if of.name not in _references(run, metric)]
        if series and max(len(of.x) for of in series) > 1:
            floor = run.measured.floors.get(metric)
            key = f"{run.folder} training {metric}"
            charts.append(
                lines(
                    key,
                    label(metric),
                    series,
                    "activations seen",
                    label(metric).partition(",")[0].partition(" (")[0],
                    floor,
                    metric,
                )
            )
    if not charts:
        return None
    return Section(
        "training",
        "Training",
        "At each validation: mean over seeds, bands from the least to the greatest.",
        [Group(charts=charts)],
    )


def _explained(run: ReportRun) -> Section | None:
    charts = []
    for metric, of in run.measured.metrics.items():
        name, _, part = metric.partition("@")
        l0 = run.measured.metrics.get(metric.replace("explained_variance", "l0"))
        if name != "explained_variance" or not l0 or part in run.nulls:
            continue
        series = []
        for policy in in_order(set(of) & set(l0)):
            pairs = [(l0[policy].get(seed), value) for seed, value in of[policy].items()]
            kept = [(x, y) for x, y in pairs if x is not None and y is not None]
            if kept:
                series.append(Series(policy, [x for x, _ in kept], [y for _, y in kept]))
        if series:
            key, title = f"{run.folder} l0 {metric}", f"Explained variance against l0{f' ({part})' if part else ''}"
            charts.append(
                lines(key, title, series, "active latents a sample (l0)", "explained variance", name=metric, join=False)
            )
    lead = "Up and to the left is better: more explained by fewer active latents. A point for each seed."
    return Section("sparsity", "Explained variance and sparsity", lead, [Group(charts=charts)]) if charts else None


def _distributions(run: ReportRun) -> Section | None:
    charts = []
    for part in _parts(run):
        at = f"@{part}" if part else ""
        suffix = f" ({part})" if part else ""
        if frequency := _with_ends(histogram(run.folder, f"log10_firing_frequency{at}")):
            title = f"How often latents fire{suffix}"
            x = "firing frequency, powers of ten"
            charts.append(
                lines(
                    f"{run.folder} frequency{at}",
                    title,
                    frequency,
                    x,
                    "share of latents a power of ten",
                    name="log10_firing_frequency" + at,
                )
            )
        if drift := _with_ends(histogram(run.folder, f"cosine_to_start{at}")):
            drift = [of for of in drift if min(of.x) < 0.99 or len(drift) == 1]
            if drift:
                title = f"How far decoder directions moved{suffix}"
                x = "cosine of a direction to its start"
                charts.append(
                    lines(
                        f"{run.folder} drift{at}",
                        title,
                        drift,
                        x,
                        "share of latents, density",
                        name="cosine_to_start" + at,
                    )
                )
    lead = (
        "Distributions over the latents of the first seed, at the last validation, in the bins that TensorBoard keeps. "
        "Latents that never fired have no frequency; directions that stayed where they started are left out."
    )
    return Section("distributions", "Firing frequency and drift", lead, [Group(charts=charts)]) if charts else None


def _recovery(run: ReportRun) -> Section | None:
    if RECOVERY not in run.measured.metrics:
        return None
    try:
        truth = read_truth(run.folder, *data_of(run.folder / "config.yaml"))
    except (LeftOut, ValueError):
        return None
    fires = truth.probabilities > 0
    probabilities = truth.probabilities[fires]
    if probabilities.min() == probabilities.max():
        return None
    edges = frequency_bins(probabilities)
    middles = ((edges[1:] * edges[:-1]) ** 0.5).tolist()
    found = {policy: by_frequency(best[:, fires], probabilities, edges) for policy, best in truth.best.items()}
    chance = by_frequency(truth.chance[None, fires], probabilities, edges)
    shared = [Series(of, middles, found[of].share, found[of].low, found[of].high) for of in in_order(found)]
    cosine = [Series(of, middles, found[of].cosine) for of in in_order(found)]
    cosine.append(Series("random dictionary", middles, chance.cosine))
    x = "how often a feature fires"
    charts = [
        lines(f"{run.folder} recovered", "Features recovered, by how often they fire", shared, x, f"share with cosine > {THRESHOLD:g}", log_x=True),
        lines(f"{run.folder} nearest", "Nearest direction, by how often a feature fires", cosine, x, "mean best cosine", log_x=True),
    ]  # fmt: skip
    lead = (
        "True features in bins of their firing probability. Bands: 95 % intervals (Wilson) over the features of a bin."
    )
    return Section("recovery", "Recovery by frequency", lead, [Group(charts=charts)])


def _details(name: str, title: str, lead: str) -> Callable[[ReportRun], Section | None]:
    """A section on all metrics that ask one question and are not on the first screen or under it."""
    question = next(of for of in QUESTIONS if of.name == name)

    def make(run: ReportRun) -> Section | None:
        told = {of.metric for of in run.comparisons}
        charts = [
            _dots(run, metric)
            for metric in run.measured.metrics
            if question_of(metric) == question and metric not in told and metric.partition("@")[2] not in run.nulls
        ]
        charts = [*_extra(run, question), *(chart for chart in charts if chart is not None)]
        return Section(name, title, lead, [Group(charts=charts)]) if charts else None

    return make


def _extra(run: ReportRun, question: Question) -> Iterator[Chart]:
    if question.name == "probing":
        yield from _probes(run)
    if question.name == "interpretation":
        yield from _interpretations(run)


def _probes(run: ReportRun) -> Iterator[Chart]:
    """Accuracy over the number of latents that a probe may read."""
    for start, title in (
        ("probe_accuracy_k", "Probe accuracy"),
        ("probe_accuracy_ood_k", "Probe accuracy, other data"),
    ):
        found: dict[str, dict[int, float]] = {}
        for metric, of in run.measured.metrics.items():
            k = metric.removeprefix(start)
            if metric.startswith(start) and k.isdigit():
                for row in rows_of(of):
                    found.setdefault(row.policy, {})[int(k)] = row.mean
        if found and max(map(len, found.values())) > 1:
            series = [
                Series(of, sorted(found[of]), [found[of][k] for k in sorted(found[of])]) for of in in_order(found)
            ]
            yield lines(f"{run.folder} {start}", title, series, "latents (or directions) that it reads", "accuracy")


def _interpretations(run: ReportRun) -> Iterator[Chart]:
    """Distribution of the scores of interpreted latents."""
    import json

    import numpy as np

    path = run.folder / "interpretation.jsonl"
    if not path.is_file():
        return
    scores: dict[str, list[float]] = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            kept = json.loads(line)
            if kept["member"].count("/") == 1 and kept["score"] is not None:
                scores.setdefault(kept["member"].split("/")[0], []).append(kept["score"])
    edges = np.linspace(0, 1, 21)
    series = [
        Series(of, (edges[:-1] + 0.025).tolist(), (np.histogram(scores[of], edges)[0] / len(scores[of])).tolist())
        for of in in_order(scores)
    ]
    if series:
        n = sum(map(len, scores.values()))
        yield lines(
            f"{run.folder} scores",
            "Scores of single latents",
            series,
            "accuracy of a latent's explanation",
            "share of latents",
            note=f"{n:,} latents of all seeds; chance is 0.5.",
        )


def _nulls(run: ReportRun) -> Section | None:
    charts = []
    for metric, of in run.measured.metrics.items():
        name, _, part = metric.partition("@")
        real = run.measured.metrics.get(name)
        if (
            part not in run.nulls
            or name not in ("explained_variance", "seed_pw_mcc", "cosine_to_start_mean")
            or not real
        ):
            continue
        rows = [
            Row(f"{row.policy}{where}", row.seeds)
            for policy in in_order(set(real) & set(of))
            for where, values in (("", real), (f" on {part}", of))
            for row in rows_of({policy: values[policy]})
        ]
        if rows:
            title = f"{label(name)}, real and {part}"
            charts.append(dots(f"{run.folder} null {metric}", metric, rows, run.measured.floors.get(name), title=title))
    lead = (
        "The same SAEs trained on noise that keeps only simple statistics of the activations. What an SAE scores on noise "
        "says nothing of features."
    )
    return Section("nulls", "On noise in place of activations", lead, [Group(charts=charts)]) if charts else None


def _stitching(run: ReportRun) -> Section | None:
    groups = [_stitched(run, path, found) for path, found in run.found("stitch/*/stitch.json")]
    lead = (
        "What a larger SAE has that a smaller one lacks: each latent inserted alone is novel where the error falls and a "
        "reconstruction where it rises (95 % intervals). Then one becomes the other step by step."
    )
    return Section("stitching", "Stitching", lead, groups) if groups else None


def _stitched(run: ReportRun, path: Path, found: Mapping[str, Any]) -> Group:
    small, large, steps = found["small"], found["large"], found["curve"]["steps"]
    phases = list(dict.fromkeys(step["phase"] for step in steps))
    number = list(enumerate(steps))
    by_step = [
        Series(
            of, [i for i, step in number if step["phase"] == of], [step["mse"] for step in steps if step["phase"] == of]
        )
        for of in phases
    ]
    by_l0 = [
        Series(
            of,
            [step["l0"] for step in steps if step["phase"] == of],
            [step["explained_variance"] for step in steps if step["phase"] == of],
        )
        for of in phases
    ]
    end = found["curve"]["large"]["mse"]
    charts = [
        lines(f"{path} steps", "Squared error, step by step", by_step, "step", "squared error", join=False, note=f"{large} itself has {end:.4g}."),
        lines(f"{path} l0", "Explained variance against l0", by_l0, "active latents a sample (l0)", "explained variance", join=False),
    ]  # fmt: skip
    rows = [
        [name, f"{of['n']:,}", _percent(of["share"]), _percent(of["firing_share"]), _number(of["best_cosine"]), _percent(of["change"], 3), _percent(of["shuffled"])]
        for name, of in found["classes"].items()
    ]  # fmt: skip
    head = ["class", "latents", "share", "of firings", "largest cosine", "change of error", "shuffled"]
    classes = Table(f"Latents of {large} inserted alone into {small}", head, rows)
    return Group(f"{small} to {large}", f"On {found['n_samples']:,} held-out samples.", charts, [classes])


def _meta(run: ReportRun) -> Section | None:
    charts = [
        chart
        for metric in run.measured.metrics
        if question_of(metric).name == "meta" and metric not in {of.metric for of in run.comparisons}
        if (chart := _dots(run, metric)) is not None
    ]
    lead = "This SAE was trained on the decoder directions of another; floors are random directions in place of meta-latents."
    return Section("meta", "Meta-latents", lead, [Group(charts=charts)]) if charts else None


def _density(run: ReportRun) -> Section | None:
    found = next((found for _, found in run.found("density/density.json")), None)
    if found is None:
        return None
    panels = {
        "participation_ratio": "Participation ratio",
        "hoyer": "Hoyer sparseness",
        "excess_kurtosis": "Excess kurtosis of a token",
        "near_zero": "Coordinates near zero",
    }
    hooks = list(dict.fromkeys(row["hook"] for row in found["layers"]))
    chosen = [row for row in found["layers"] if (row["tokens"], row["dimensions"]) == (WITHOUT_FIRST, ALL_DIMENSIONS)]
    charts = []
    for measure, title in panels.items():
        series = [
            Series(
                view,
                [hooks.index(row["hook"]) for row in chosen if row["view"] == view],
                [row[measure] for row in chosen if row["view"] == view],
            )
            for view in dict.fromkeys(row["view"] for row in chosen)
        ]
        if series:
            charts.append(
                lines(f"{run.folder} density {measure}", title, series, "hook, from the first", title.lower())
            )
    claims = [[of["claim"], of["verdict"], of["evidence"]] for of in found.get("verdicts") or ()]
    tables = [Table("Claims about dense representations", ["claim", "verdict", "evidence"], claims)] if claims else []
    lead = f"Activations of {found['n_tokens']:,} held-out tokens of {found['model']}, at norm sqrt(d), without first tokens."
    return Section("density", "Density of the representation", lead, [Group("", "", charts, tables)])


def _numbers(run: ReportRun) -> Section | None:
    metrics = run.measured.metrics
    policies = in_order(policy for of in metrics.values() for policy in of)
    rows = []
    for metric in sorted(metrics):
        found = {row.policy: row for row in rows_of(metrics[metric])}
        floor = run.measured.floors.get(metric)
        show = number_format([*(row.mean for row in found.values()), floor])
        cells = [mean_and_spread(found[policy].seeds, show) if policy in found else "-" for policy in policies]
        rows.append([metric, "-" if floor is None else f"{floor:{show}}", *cells])
    table = Table(
        "Mean and sample standard deviation over seeds", ["metric", "floor", *map(policy_label, policies)], rows
    )
    return Section("numbers", "Every number", "The last validation, as in metrics.jsonl.", [Group(folded=[table])])


def _dots(run: ReportRun, metric: str) -> Chart | None:
    rows = rows_of(run.measured.metrics[metric])
    if not rows:
        return None
    return dots(
        f"{run.folder} {metric}", metric, rows, run.measured.floors.get(metric), run.measured.better.get(metric, "")
    )


def _parts(run: ReportRun) -> list[str]:
    """Hooks side by side, or the unnamed part; without nulls."""
    parts = dict.fromkeys(metric.partition("@")[2] for metric in run.measured.metrics)
    return [part for part in parts if part not in run.nulls]


def _references(run: ReportRun, metric: str) -> set[str]:
    """What is measured of this metric and is no SAE: it has no cosine to a start."""
    part = metric.partition("@")[2]
    saes = run.measured.metrics.get("cosine_to_start_mean" + (f"@{part}" if part else ""))
    return set() if saes is None else set(run.measured.metrics[metric]) - set(saes)


def _with_ends(series: Sequence[Series]) -> list[Series]:
    """Histograms in the order of the page."""
    by_name = {of.name: of for of in series}
    return [by_name[name] for name in in_order(by_name)]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f} %"


_SECTIONS: tuple[Callable[[ReportRun], Section | None], ...] = (
    _training,
    _explained,
    _distributions,
    _recovery,
    _details(
        "probing",
        "Probing",
        "A probe reads the few latents that tell most of a concept; beside it, the same with directions that were not learned.",
    ),
    _details("causal", "Causal edits", "Replacing the latents of one fact by those of another, and what else changes."),
    _details("interpretation", "Interpretation", "How well explanations predict on which texts latents fire."),
    _details(
        "seeds",
        "Agreement of seeds",
        "Do two seeds of one policy find the same latents? The floor is random directions of equal mean and covariance.",
    ),
    _nulls,
    _stitching,
    _meta,
    _density,
    _numbers,
)
