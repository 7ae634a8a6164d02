import pytest
import torch

from sae_lightning.callbacks.metrics_file import MetricsFile, collect, measured_scores
from sae_lightning.evaluators import Evaluator, Scores
from sae_lightning.members import Member, Tag
from sae_lightning.metric import undescribed


def test_values_are_sorted_by_metric_and_member():
    logged = {
        "val/fvu/trained/0": torch.tensor(0.25),
        "val/fvu/trained/1": torch.tensor(float("nan")),
        "val/fvu@early/trained/0": torch.tensor(0.5),
        "val/fvu/floor": torch.tensor(1.0),
        "val/ce/floor": torch.tensor(float("inf")),
        "train/mse/trained/0": torch.tensor(3.0),
        "test/fvu/trained/0": torch.tensor(0.75),
        "val/loss": torch.tensor(3.0),
    }
    trained = Member("trained", 0)
    values, floors = collect(logged, "val")
    assert values == {
        Tag("fvu"): {trained: 0.25, Member("trained", 1): None},
        Tag("fvu", "early"): {Member("trained", 0, "early"): 0.5},
    }
    assert floors == {Tag("fvu"): 1.0, Tag("ce"): None}
    assert collect(logged, "test")[0] == {Tag("fvu"): {trained: 0.75}}


class Measures(Evaluator):
    """Measured once."""

    def __init__(self, better):
        super().__init__()
        self.better = better
        self.measured = {"answer": Scores(undescribed("answer", better), {}, None)}

    def scores(self, trainer, module, stage):
        return self.measured.values()


def test_one_metric_has_one_description():
    agree, disagree = ([Measures("higher"), Measures(better)] for better in ("higher", "lower"))
    assert len(measured_scores(agree)) == 2
    with pytest.raises(ValueError, match="two evaluators measure answer"):
        measured_scores(disagree)


def test_counters_survive_a_restart():
    first, second = MetricsFile(), MetricsFile()
    first.load_state_dict({"samples": 64, "seconds": 2.5})
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == {"samples": 64, "seconds": 2.5}
