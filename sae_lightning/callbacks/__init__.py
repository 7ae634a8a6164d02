"""Callbacks of every run: progress, metrics.jsonl, checkpoints, interruption, lost ranks, and exported SAEs."""

from sae_lightning.callbacks.checkpoints import Checkpoints, WholeFiles
from sae_lightning.callbacks.export import ExportSAEs
from sae_lightning.callbacks.interrupt import Interrupt
from sae_lightning.callbacks.metrics_file import MetricsFile
from sae_lightning.callbacks.opening import Opening
from sae_lightning.callbacks.progress import ThroughputBar
from sae_lightning.callbacks.rank_watch import RankWatch
from sae_lightning.callbacks.run_config import RunConfig
from sae_lightning.callbacks.speed import Speed

__all__ = [
    "Checkpoints",
    "ExportSAEs",
    "Interrupt",
    "MetricsFile",
    "Opening",
    "RankWatch",
    "RunConfig",
    "Speed",
    "ThroughputBar",
    "WholeFiles",
]
