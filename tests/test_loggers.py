from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sae_lightning.loggers import MemberTensorBoardLogger
from sae_lightning.members import LoggedName, Member


def tags(folder: Path, kind: str = "scalars") -> set[str]:
    return set(EventAccumulator(str(folder)).Reload().Tags()[kind])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # tensorboard's own
def test_every_member_is_a_curve_of_the_same_chart(tmp_path: Path):
    logger = MemberTensorBoardLogger(str(tmp_path), name="demo")
    logger.log_hyperparams({"d_in": 8})
    for step in (1, 2):
        logger.log_metrics({"val/fvu/trained/0": 0.5, "val/fvu/frozen_decoder/1": 0.6, "val/fvu/floor": 1.0}, step)
        logger.log_metrics({"train/mse/trained/0": 3.0, "epoch": 0, "lr-Adam": 0.1}, step)
    name = LoggedName.of("val", "firing_frequency", Member("trained", 0))
    logger.log_histogram(name, torch.rand(10), 2)
    logger.save()
    logger.finalize("success")
    run = tmp_path / "demo" / "version_0"
    assert tags(run / "trained-0") == {"val/fvu", "train/mse"}
    assert tags(run / "frozen_decoder-1") == {"val/fvu"}
    assert tags(run / "floor") == {"val/fvu"}
    assert tags(run) == {"epoch", "lr-Adam"}
    assert tags(run / "trained-0", "histograms") == {"val/firing_frequency"}
    assert not (run / "hparams.yaml").exists()
    points = EventAccumulator(str(run / "floor")).Reload().Scalars("val/fvu")
    assert [(point.step, point.value) for point in points] == [(1, 1.0), (2, 1.0)]
