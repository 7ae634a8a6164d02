"""What the page shows of a run, read from its folder and nowhere else."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sae_lightning.callbacks.run_config import read_starts
from sae_lightning.compare import Run, read_lines, read_run, verdict
from sae_lightning.saes.module import chart
from sae_lightning.verdict import Comparison


@dataclass(frozen=True)
class ReportRun:
    """A run folder.

    Args:
        measured: its last validation.
        lines: all of ``metrics.jsonl``.
        config: ``config.yaml`` as text; empty where there is none.
        settings: the same as values.
        starts: what is known of when and with what it was run, one entry for each start; none of older runs.
        comparisons: its verdict.
    """

    measured: Run
    lines: list[dict[str, Any]]
    config: str
    settings: dict[str, Any]
    starts: list[dict[str, Any]]
    comparisons: list[Comparison]

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.measured.folder

    @property
    def title(self) -> str:
        """Experiment and version."""
        return "/".join(self.folder.resolve().parts[-2:])

    @property
    def parts(self) -> list[str]:
        """Hooks that stand side by side, or the unnamed one; without nulls."""
        metrics = [metric for metric in self.measured.metrics if not self.is_null(metric)]
        return list(dict.fromkeys(metric.partition("@")[2] for metric in metrics))

    def is_null(self, metric: str) -> bool:
        """Whether a metric was measured on noise in place of activations."""
        data = (self.settings.get("data") or {}).get("init_args") or {}
        return metric.partition("@")[2] in (data.get("nulls") or {})

    def saes(self, part: str) -> set[str]:
        """What is an SAE and not a reference beside them: what has decoder directions that could move."""
        metrics = self.measured.metrics
        directions = metrics.get(self.of_part("cosine_to_start_mean", part))
        return set(directions if directions is not None else (policy for of in metrics.values() for policy in of))

    @staticmethod
    def of_part(metric: str, part: str) -> str:
        """`fvu@early`."""
        return chart(metric, part)

    def found(self, pattern: str) -> list[tuple[Path, dict[str, Any]]]:
        """JSON files that other commands have left in the folder."""
        return [(path, json.loads(path.read_text())) for path in sorted(self.folder.glob(pattern))]


def read(folder: Path) -> ReportRun:
    """Read a run folder.

    Raises:
        ValueError: if it is none.
    """
    lines, measured = read_lines(folder), read_run(folder)
    path = folder / "config.yaml"
    config = path.read_text() if path.is_file() else ""
    settings = yaml.safe_load(config) or {}
    return ReportRun(measured, lines, config, settings, read_starts(folder), verdict([measured]))
