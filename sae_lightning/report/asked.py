"""Sections on what evaluators asked the SAEs of a run, one for each question, and every number."""

import json
import re
from collections.abc import Callable, Iterator

import numpy as np

from sae_lightning.report.charts import Row, Series, dots, lines, rows_of
from sae_lightning.report.figure import Chart, Table, mean_and_spread
from sae_lightning.report.run import ReportRun
from sae_lightning.report.section import Group, Section
from sae_lightning.report.words import in_order, label, policy_label, question_of
from sae_lightning.tables import number_format

INTERPRETATIONS = "interpretation.jsonl"
_PROBES = {
    "probe_accuracy_k": "Accuracy of probes",
    "probe_accuracy_ood_k": "Accuracy on other data than they were fitted on",
    "probe_auroc_k": "AUROC of probes",
    "probe_auroc_ood_k": "AUROC on other data than they were fitted on",
}
_LEADS = {
    "probing": "A probe reads the few latents that tell most of a concept, and beside them directions nobody learned.",
    "causal": "Latents of one fact are replaced by those of another: does that fact change, and no other?",
    "interpretation": "A judge explains a latent from texts on which it fires, and predicts on which others it does.",
    "seeds": "Do two seeds of one policy find the same latents? Floor: random directions of equal mean and covariance.",
    "meta": "This SAE was trained on the decoder directions of another. Floor: random directions as meta-latents.",
}


def details(name: str, title: str) -> Callable[[ReportRun], Section | None]:
    """A section on the metrics that ask one question and have no verdict, since those with one are shown before."""

    def make(run: ReportRun) -> Section | None:
        told = {of.metric for of in run.comparisons}
        charts = [*_probes(run)] if name == "probing" else [*_scores(run)] if name == "interpretation" else []
        for metric, values in run.measured.metrics.items():
            is_line = bool(re.fullmatch(f"({'|'.join(_PROBES)})[0-9]+", metric))
            if question_of(metric).name != name or metric in told or run.is_null(metric) or is_line:
                continue
            if rows := rows_of(values):
                floor = run.measured.floors.get(metric)
                charts.append(dots(f"{run.folder} {metric}", metric, rows, floor, run.measured.better.get(metric, "")))
        return Section(name, title, _LEADS[name], [Group(charts=charts)]) if charts else None

    return make


def _probes(run: ReportRun) -> Iterator[Chart]:
    """Each measure over the number of latents that a probe may read."""
    for start, title in _PROBES.items():
        found: dict[str, dict[int, float]] = {}
        for metric, values in run.measured.metrics.items():
            k = metric.removeprefix(start)
            if metric.startswith(start) and k.isdigit():
                for row in rows_of(values):
                    found.setdefault(row.policy, {})[int(k)] = row.mean
        series = [Series(of, sorted(found[of]), [found[of][k] for k in sorted(found[of])]) for of in in_order(found)]
        if series:
            y = "AUROC" if "auroc" in start else "accuracy"
            yield lines(
                f"{run.folder} {start}", title, series, "latents or directions that it reads", y, name=f"{start}*"
            )


def _scores(run: ReportRun) -> Iterator[Chart]:
    """Distribution of the scores of interpreted latents."""
    path = run.folder / INTERPRETATIONS
    scores: dict[str, list[float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        kept = json.loads(line)
        if kept["member"].count("/") == 1 and kept["score"] is not None:
            scores.setdefault(kept["member"].split("/")[0], []).append(kept["score"])
    if not scores:
        return
    least = min(map(min, scores.values())) // 0.05 * 0.05
    edges = np.arange(least, 1.05, 0.05)
    series = [
        Series(of, (edges[:-1] + 0.025).tolist(), (np.histogram(scores[of], edges)[0] / len(scores[of])).tolist())
        for of in in_order(scores)
    ]
    note = f"{sum(map(len, scores.values())):,} latents of all seeds, in bins of 0.05; chance is 0.5."
    x = "accuracy of a latent's explanation"
    yield lines(f"{run.folder} scores", "Scores of single latents", series, x, "share of latents", note=note)


def nulls(run: ReportRun) -> Section | None:
    """The same metrics on activations and on noise."""
    charts = []
    for metric, values in run.measured.metrics.items():
        name, _, part = metric.partition("@")
        real = run.measured.metrics.get(name, {})
        if not run.is_null(metric) or name not in ("explained_variance", "cosine_to_start_mean", "seed_pw_mcc"):
            continue
        rows = [
            Row(policy, of.seeds, noise=noise)
            for policy in in_order(set(real) & set(values) & run.saes(part))
            for noise, by_policy in (("", real), (part, values))
            for of in rows_of({policy: by_policy[policy]})
        ]
        if rows:
            key, title = f"{run.folder} null {metric}", f"{label(name)}: activations and {part} noise"
            charts.append(dots(key, metric, rows, run.measured.floors.get(name), title=title))
    lead = (
        "The same SAEs, trained on noise that keeps simple statistics of the activations. What an SAE scores on noise "
        "as well says nothing of features."
    )
    return Section("nulls", "On noise in place of activations", lead, [Group(charts=charts)]) if charts else None


def numbers(run: ReportRun) -> Section:
    """Every metric of the last validation."""
    metrics = run.measured.metrics
    policies = in_order(policy for of in metrics.values() for policy in of)
    rows = []
    for metric in sorted(metrics):
        floor = run.measured.floors.get(metric)
        seeds = {policy: list(of.values()) for policy, of in metrics[metric].items()}
        show = number_format([*(value for of in seeds.values() for value in of), floor])
        cells = [mean_and_spread(seeds.get(policy, ()), show) for policy in policies]
        rows.append([metric, mean_and_spread([floor], show), *cells])
    head = ["metric", "floor", *map(policy_label, policies)]
    table = Table("Mean ± sample standard deviation over seeds", head, rows)
    lead = "The last validation, as in metrics.jsonl; the floor is an SAE that does nothing, or chance."
    return Section("numbers", "Every number", lead, [Group(folded=[table])])
