import json

from sae_lightning.figures.training import curves
from sae_lightning.members import Tag
from sae_lightning.runs import Validation


def line(samples: int, **metrics: dict) -> Validation:
    about = {"step": samples, "samples": samples, "seconds": 1.0, "floors": {}}
    return Validation.parse(json.dumps(about | {"metrics": metrics}))


def test_curves_are_means_over_the_seeds_that_were_measured():
    lines = [
        line(10, fvu={"trained": {"0": 0.1, "1": 0.4}, "other": {"0": None}}),
        line(20, l0={"trained": {"0": 3.0}}),
        line(30, fvu={"trained": {"0": None, "1": 0.2}, "other": {"0": 0.5}}),
    ]
    collected = curves(lines, Tag("fvu"))
    assert collected["trained"].x == [10, 30]
    assert collected["trained"].y == [0.25, 0.2]
    assert collected["trained"].low == [0.1, 0.2]
    assert collected["trained"].high == [0.4, 0.2]
    assert collected["other"].x == [30]
    assert curves(lines, Tag("kl")) == {}
