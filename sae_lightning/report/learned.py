"""Sections on how the SAEs of a run learned, and what became of their latents."""

from sae_lightning.figures.computed import by_frequency, curves, frequency_bins
from sae_lightning.figures.runs import RECOVERY, THRESHOLD, LeftOut, data_of, read_truth
from sae_lightning.report.charts import Series, lines
from sae_lightning.report.figure import Chart
from sae_lightning.report.histograms import histogram
from sae_lightning.report.run import ReportRun
from sae_lightning.report.section import Group, Section
from sae_lightning.report.words import in_order, label

_CURVES = ("explained_variance", RECOVERY, "ce_recovered_mean", "l0", "dead_fraction", "cosine_to_start_mean")


def training(run: ReportRun) -> Section | None:
    """Metrics over training, where there were two validations or more."""
    names = [name for name in run.measured.metrics if name.partition("@")[0] in _CURVES]
    names.sort(key=lambda name: (name.partition("@")[2], _CURVES.index(name.partition("@")[0])))
    charts = [chart for metric in names if (chart := _curve(run, metric)) is not None]
    lead = "At each validation: the mean over seeds; bands from the least to the greatest of them."
    return Section("training", "Training", lead, [Group(charts=charts)]) if charts else None


def _curve(run: ReportRun, metric: str) -> Chart | None:
    found = curves(run.lines, metric)
    saes = run.saes(metric.partition("@")[2])
    found = {policy: curve for policy, curve in found.items() if policy in saes}
    if max((len(curve.samples) for curve in found.values()), default=0) < 2:
        return None
    several = any(curve.least != curve.greatest for curve in found.values())
    series = [
        Series(of, found[of].samples, found[of].mean, *((found[of].least, found[of].greatest) if several else ()))
        for of in in_order(found)
    ]
    y = metric.partition("@")[0].replace("_", " ")
    key, floor = f"{run.folder} training {metric}", run.measured.floors.get(metric)
    return lines(key, f"{label(metric)}, over training", series, "activations seen", y, floor, metric)


def sparsity(run: ReportRun) -> Section | None:
    """Explained variance against l0."""
    charts = []
    for part in run.parts:
        metric, of_l0 = run.of_part("explained_variance", part), run.measured.metrics.get(run.of_part("l0", part), {})
        found = run.measured.metrics.get(metric, {})
        series = []
        for policy in in_order(set(found) & set(of_l0)):
            pairs = [(of_l0[policy].get(seed), value) for seed, value in found[policy].items()]
            kept = [(x, y) for x, y in pairs if x is not None and y is not None]
            if kept:
                series.append(Series(policy, [x for x, _ in kept], [y for _, y in kept]))
        if series:
            key, title = f"{run.folder} l0 {metric}", "Explained variance against l0" + (f" ({part})" if part else "")
            x, y = "active latents a sample (l0)", "explained variance"
            charts.append(lines(key, title, series, x, y, name=metric, join=False))
    lead = "Up and to the left is better: more explained by fewer active latents. A point for each seed."
    return Section("sparsity", "Explained variance and sparsity", lead, [Group(charts=charts)]) if charts else None


def distributions(run: ReportRun) -> Section | None:
    """Firing frequencies and drift, over latents."""
    charts = []
    for part in run.parts:
        suffix = f" ({part})" if part else ""
        for name, title, x in (
            ("log10_firing_frequency", "How often latents fire", "firing frequency, as a power of ten"),
            ("cosine_to_start", "How far decoder directions moved", "cosine of a direction to its start"),
        ):  # fmt: skip
            metric = run.of_part(name, part)
            found = {of.name: of for of in histogram(run.folder, metric) if len(of.x) > 1}
            if found:
                series = [found[policy] for policy in in_order(found)]
                charts.append(
                    lines(f"{run.folder} {metric}", title + suffix, series, x, "latents, density", name=metric)
                )
    lead = (
        "Distributions over the latents of the first seed at the last validation, in the bins that TensorBoard keeps. "
        "Latents that never fired have no frequency; a frozen decoder, with all directions in one bin, is left out."
    )
    return Section("distributions", "Firing frequency and drift", lead, [Group(charts=charts)]) if charts else None


def recovery(run: ReportRun) -> Section | None:
    """Which true features were found, by how often they fire; only where they are known."""
    if RECOVERY not in run.measured.metrics:
        return None
    try:
        truth = read_truth(run.folder, *data_of(run.folder / "config.yaml"))
    except LeftOut:
        return None
    fires = truth.probabilities > 0
    probabilities = truth.probabilities[fires]
    if probabilities.max() <= probabilities.min() * (1 + 1e-6):
        return None
    edges = frequency_bins(probabilities)
    middles = ((edges[1:] * edges[:-1]) ** 0.5).tolist()
    found = {
        policy: by_frequency(truth.best[policy][:, fires], probabilities, edges) for policy in in_order(truth.best)
    }
    shares = [
        Series(name, middles, *(ends.tolist() for ends in (of.share, of.low, of.high))) for name, of in found.items()
    ]
    cosines = [Series(name, middles, of.cosine.tolist()) for name, of in found.items()]
    chance = by_frequency(truth.chance[None, fires], probabilities, edges)
    cosines.append(Series("random dictionary", middles, chance.cosine.tolist()))
    x, y = "how often a feature fires", f"share with a cosine above {THRESHOLD:g}"
    charts = [
        lines(f"{run.folder} recovered", "Features recovered", shares, x, y, log_x=True),
        lines(f"{run.folder} nearest", "Nearest decoder direction", cosines, x, "mean best cosine", log_x=True),
    ]
    lead = (
        "True features in bins of their firing probability; bands: 95 % intervals (Wilson) over the features of a bin."
    )
    return Section("recovery", "Recovery by frequency", lead, [Group(charts=charts)])
