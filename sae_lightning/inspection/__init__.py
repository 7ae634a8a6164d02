"""Was an SAE read right? Its weights by themselves, and on activations beside what its file states."""

from sae_lightning.inspection.activations import Measured, measure
from sae_lightning.inspection.report import Inspection
from sae_lightning.inspection.weights import WeightCheck, check_weights

__all__ = ["Inspection", "Measured", "WeightCheck", "check_weights", "measure"]
