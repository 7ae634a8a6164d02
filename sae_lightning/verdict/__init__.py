"""Whether an SAE beats each of its baselines: metric by metric, with intervals, never against the best of several."""

from sae_lightning.verdict.comparison import WORDS, Comparison
from sae_lightning.verdict.decide import decide
from sae_lightning.verdict.files import VERDICT_FILE, experiments_as_json, verdict_as_json, write_verdict
from sae_lightning.verdict.text import experiment_texts, verdict_table

__all__ = [
    "VERDICT_FILE",
    "WORDS",
    "Comparison",
    "decide",
    "experiment_texts",
    "experiments_as_json",
    "verdict_as_json",
    "verdict_table",
    "write_verdict",
]
