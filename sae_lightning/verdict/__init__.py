"""Whether an SAE beats each of its baselines: metric by metric, with intervals, never against the best of several."""

from sae_lightning.verdict.decide import Comparison, Measured, decide, verdict_as_json
from sae_lightning.verdict.text import verdict_table

VERDICT_FILE = "verdict.json"

__all__ = ["VERDICT_FILE", "Comparison", "Measured", "decide", "verdict_as_json", "verdict_table"]
