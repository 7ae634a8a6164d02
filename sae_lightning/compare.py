"""``sae compare``: the SAE, its baselines and the floor side by side, and whether it beats them.

A row per metric, a column per freeze policy: the mean over seeds and its sample standard deviation, then the floor,
which is what an SAE that does nothing scores, and references that are no SAE. Runs whose model and data settings agree
up to seeds and freeze policies are one experiment: their values are put together. Other runs stand in tables of their
own. Under each table stands the verdict (`sae_lightning.verdict`); of a family it is about each size by itself.
"""

import json
import re
import statistics
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from sae_lightning.tables import lay_out, number_format
from sae_lightning.verdict import VERDICT_FILE, Comparison, Measured, decide, verdict_as_json, verdict_table
from sae_lightning.verdict.decide import TRAINED
from sae_lightning.verdict.items import read_items

METRICS_FILE = "metrics.jsonl"
POLICIES = (
    "trained", "frozen_decoder", "soft_frozen_decoder", "frozen_encoder", "untrained", "from_truth", "oracle"
)  # fmt: skip
FIRST_METRICS = (
    "explained_variance",
    "fvu",
    "cosine",
    "l0",
    "dead_fraction",
    "ce_recovered",
    "loss_recovered",
    "recovery",
    "cosine_to_start",
    "drift",
)
"""What the table begins with, by the beginning of the name; other metrics follow in alphabetical order."""

Values: TypeAlias = dict[str, dict[str, list[float | None]]]
"""``{metric: {policy: [a value per seed]}}``"""


@dataclass(frozen=True)
class Run(Measured):
    """The last validation of one run.

    Args:
        metrics: ``{metric: {policy: {seed: value}}}``; a value that was not finite is None.
        floors: ``{metric: value}``.
        better: ``{metric: "higher" or "lower"}`` of those where it matters.
        items: what the metrics were averaged over.
        folder: the run folder.
        settings: what makes two runs one experiment, as text; None where the run has no ``config.yaml``.
        sizes: of a family: of each policy its size, and what it is among those of its size.
    """

    folder: Path
    settings: str | None
    sizes: Mapping[str, Sequence[str]] = field(default_factory=dict)


def main(args: list[str]) -> None:
    """Print the table, or with ``--json`` the values behind it."""
    parser = ArgumentParser(prog="sae compare", description=__doc__, exit_on_error=False)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, lightning_logs/<name>/version_N")
    parser.add_argument(
        "--json", action="store_true", help='print {"metrics": ..., "floors": ..., "verdicts": ...} instead of tables'
    )
    options = parser.parse_args(args[1:])
    groups = group([read_run(folder) for folder in options.runs])
    print(json.dumps(as_json(groups)) if options.json else "\n\n".join(told(groups)))


def told(groups: Sequence[Sequence[Run]]) -> list[str]:
    """Table and verdict of each group."""
    texts = []
    for runs, entry in zip(groups, tables(groups), strict=True):
        texts.append(table(*entry))
        if comparisons := verdict(runs):
            texts.append(verdict_table(comparisons))
            for size in [size for run in runs for size, kind in run.sizes.values() if kind != TRAINED][:1]:
                texts[-1] += f"\n@{size}: the trained SAE of size {size} against the baselines of its size"
    return texts


def verdict(runs: Sequence[Run]) -> list[Comparison]:
    """Comparisons of one experiment, in the order of its table; those of a family as of `by_size`."""
    runs = [by_size(run) for run in runs]
    place = {metric: number for number, metric in enumerate(dict.fromkeys(of for run in runs for of in run.better))}

    def order(of: Comparison) -> tuple[Any, ...]:
        return *_metric_order(of.metric.partition("@")[0]), place[of.metric], _policy_order(of.baseline)

    return sorted(decide(runs), key=order)


def by_size(run: Run) -> Run:
    """A family as if each of its sizes were a panel: `fvu@x8` of trained, frozen_decoder, and references beside them.

    Another run is left as it is. Metrics of a hook become `fvu@early x8`.
    """
    if not run.sizes:
        return run
    metrics, floors, better, items = {}, {}, {}, {}
    for metric, size in product(run.metrics, dict.fromkeys(size for size, _ in run.sizes.values())):
        kinds = {policy: kind for policy, (of, kind) in run.sizes.items() if of == size}
        names = {of: kinds.get(of, of) for of in run.metrics[metric] if of in kinds or of not in run.sizes}
        name = f"{metric}{' ' if '@' in metric else '@'}{size}"
        metrics[name] = {names[policy]: values for policy, values in run.metrics[metric].items() if policy in names}
        floors[name] = run.floors.get(metric)
        if metric in run.better:
            better[name] = run.better[metric]
        if found := run.items.get(metric):
            of_size = {(names[policy], seed): of for (policy, seed), of in found.of.items() if policy in names}
            items[name] = replace(found, of=of_size)
    return replace(run, metrics=metrics, floors=floors, better=better, items=items, sizes={})


def write_verdict(run: Run) -> None:
    """Write ``verdict.json`` into the run folder, where there is anything to compare."""
    if comparisons := verdict([run]):
        found = verdict_as_json(comparisons, [by_size(run)])
        (run.folder / VERDICT_FILE).write_text(json.dumps(found, indent=1) + "\n")


def read_run(folder: Path) -> Run:
    """Read the last line of ``metrics.jsonl``, and the settings.

    Raises:
        ValueError: as `read_lines`.
    """
    last = read_lines(folder)[-1]
    better, items = last.get("better", {}), read_items(folder, last["step"])
    settings, sizes = _settings(folder / "config.yaml"), last.get("sizes", {})
    return Run(last["metrics"], last["floors"], better, items, folder, settings, sizes)


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """Read every line of ``metrics.jsonl``, one or more.

    Args:
        folder: a run folder.

    Raises:
        ValueError: if it is none, or no validation has been written yet.
    """
    expected = f"give a run folder, such as lightning_logs/<name>/version_0, with {METRICS_FILE} in it"
    if not folder.exists():
        raise ValueError(f"{folder}: no such folder; {expected}")
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; {expected}")
    path = folder / METRICS_FILE
    if not path.is_file():
        inside = sorted(found.parent for found in folder.glob(f"**/{METRICS_FILE}"))
        hint = f"; did you mean {inside[-1]}?" if inside else ""
        raise ValueError(f"{folder} holds no {METRICS_FILE}; {expected}{hint}")
    lines = []
    for line in path.read_text().splitlines():
        with suppress(json.JSONDecodeError):  # cut off when the machine stopped
            lines.append(json.loads(line))
    if not lines:
        raise ValueError(f"{path} is empty: the run has finished no validation yet; give one that has")
    return lines


def _settings(config: Path) -> str | None:
    if not config.is_file():
        return None
    settings = yaml.safe_load(config.read_text())
    model = settings.get("model") or {}
    arguments = model.get("init_args") or {}
    if "policies" in arguments and "sae" in arguments:  # a panel is compared by the SAE that it holds
        model = arguments["sae"]
    return json.dumps(_without_seeds([model, settings.get("data")]), sort_keys=True, default=str)


def _without_seeds(settings: Any) -> Any:
    if isinstance(settings, dict):
        return {key: _without_seeds(value) for key, value in settings.items() if key not in ("seed", "seeds", "d_in")}
    if isinstance(settings, list):
        return [_without_seeds(value) for value in settings]
    return settings


def group(runs: Iterable[Run]) -> list[list[Run]]:
    """Put runs of equal settings together, in the order given."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.settings or str(run.folder), []).append(run)
    return list(groups.values())


def tables(groups: Sequence[Sequence[Run]]) -> list[tuple[Values, dict[str, float | None]]]:
    """Values and floors of each group; with several groups, policies carry the names of their runs."""
    names = short_names([run.folder for runs in groups for run in runs])
    entries = []
    for runs in groups:
        label = f" ({'+'.join(names[run.folder] for run in runs)})" if len(groups) > 1 else ""
        values: Values = {}
        floors: dict[str, list[float]] = {}
        for run in runs:
            for metric, policies in run.metrics.items():
                for policy, seeds in policies.items():
                    values.setdefault(metric, {}).setdefault(policy + label, []).extend(seeds.values())
            for metric, floor in run.floors.items():
                floors.setdefault(metric, []).extend([] if floor is None else [floor])
        entries.append((values, {metric: statistics.fmean(of) if of else None for metric, of in floors.items()}))
    return entries


def short_names(folders: Sequence[Path]) -> dict[Path, str]:
    """The ends of the paths, as long as it takes to tell them apart."""
    parts = {folder: folder.resolve().parts for folder in folders}
    for length in range(1, max(map(len, parts.values())) + 1):
        names = {folder: "/".join(of[-length:]) for folder, of in parts.items()}
        if len(set(names.values())) == len(names):
            break
    return names


def as_json(groups: Sequence[Sequence[Run]]) -> dict[str, Any]:
    """Everything in one object; a floor on which several experiments disagree carries the names of its runs."""
    entries = tables(groups)
    metrics: Values = {}
    floors: dict[str, float | None] = {}
    for values, of in entries:
        for metric, policies in values.items():
            metrics.setdefault(metric, {}).update(policies)
        for metric, floor in of.items():
            agreed = all(other.get(metric, floor) == floor for _, other in entries)
            label = next(iter(values.get(metric, {"": []}))).partition(" ")[2]
            floors[metric if agreed else f"{metric} {label}"] = floor
    names = short_names([run.folder for runs in groups for run in runs])
    verdicts = {
        "+".join(names[run.folder] for run in runs): verdict_as_json(verdict(runs), [by_size(run) for run in runs])
        for runs in groups
    }
    return {"metrics": metrics, "floors": floors, "verdicts": verdicts}


def table(values: Values, floors: Mapping[str, float | None]) -> str:
    """Lay out one experiment.

    Args:
        values: ``{metric: {policy: [a value per seed]}}``.
        floors: ``{metric: value}``.

    Returns:
        Lines of text.
    """
    columns = sorted({policy for policies in values.values() for policy in policies}, key=_policy_order)
    seeds = {policy: max(len(of[policy]) for of in values.values() if policy in of) for policy in columns}
    n_first = sum(_policy_order(policy)[0] < len(POLICIES) for policy in columns) or len(columns)
    rows = [["", *columns], ["seeds", *(str(seeds[policy]) for policy in columns)]]
    rows[0].insert(1 + n_first, "floor")
    rows[1].insert(1 + n_first, "")
    for metric in sorted(values, key=_metric_order):
        cells = [values[metric].get(policy, []) for policy in columns]
        show = number_format([*(value for cell in cells for value in cell), floors.get(metric)])
        rows.append([metric, *(_cell(cell, show) for cell in cells)])
        rows[-1].insert(1 + n_first, _cell([floors.get(metric)], show))
    note = "mean ± sample standard deviation over seeds; floor: an SAE that does nothing"
    return f"{lay_out(rows, n_head=2)}\n{note}"


def _policy_order(policy: str) -> tuple[int, list[str | int]]:
    """Those of `POLICIES`, then others by name, x2 before x16."""
    name = policy.split(" ")[0]
    parts = [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", policy)]
    return (POLICIES.index(name) if name in POLICIES else len(POLICIES), parts)


def _metric_order(metric: str) -> tuple[int, str]:
    rank = next((rank for rank, start in enumerate(FIRST_METRICS) if metric.startswith(start)), len(FIRST_METRICS))
    return (rank, metric)


def _cell(values: Sequence[float | None], show: str) -> str:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "-"
    mean = f"{statistics.fmean(numbers):{show}}"
    return mean if len(numbers) == 1 else f"{mean} ± {statistics.stdev(numbers):{show}}"
