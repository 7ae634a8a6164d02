from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sae_lightning.loggers import MemberTensorBoardLogger
from sae_lightning.members import LoggedName, Member
from sae_lightning.panel import SanityPanel
from sae_lightning.saes import TopK


def tags(folder: Path, kind: str = "scalars") -> set[str]:
    return set(EventAccumulator(str(folder)).Reload().Tags()[kind])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # tensorboard's own
def test_every_policy_is_a_curve_of_the_same_chart(tmp_path: Path):
    logger = MemberTensorBoardLogger(str(tmp_path), name="demo")
    logger.log_hyperparams({"d_in": 8})
    for step in (1, 2):
        values = {"frozen_decoder/0": 0.6, "trained/0": 0.5, "trained/1": 0.75, "floor": 1.0}
        for metric in ("fvu", "explained_variance"):
            logger.log_metrics({f"val/{metric}/{member}": value for member, value in values.items()}, step)
        logger.log_metrics({"train/mse/trained/0": 3.0, "epoch": 0, "train/tokens_per_second": 9.0}, step)
    logger.log_histogram(LoggedName.of("val", "cosine", Member("trained", 0)), torch.linspace(0.9, 1, 100), 2)
    logger.save()
    logger.finalize("success")
    run = tmp_path / "demo" / "version_0"
    assert {folder.name for folder in run.iterdir() if folder.is_dir()} == {
        "P01_trained", "P02_frozen_decoder", "floor", "trained-0", "trained-1", "frozen_decoder-0",
    }  # fmt: skip
    assert tags(run / "P01_trained") == {"val/fvu", "headline/explained_variance", "train/mse"}
    assert tags(run / "floor") == {"val/fvu", "headline/explained_variance"}
    assert tags(run / "trained-1") == {"val_by_seed/fvu", "val_by_seed/explained_variance"}
    assert tags(run) == {"train/epoch", "train/tokens_per_second"}
    assert not (run / "hparams.yaml").exists()
    points = EventAccumulator(str(run / "P01_trained")).Reload().Scalars("val/fvu")
    assert [(point.step, point.value) for point in points] == [(1, 0.625), (2, 0.625)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_folders_are_made_in_order_and_a_histogram_has_bins_where_the_values_are(tmp_path: Path):
    logger = MemberTensorBoardLogger(str(tmp_path), name="demo")
    logger.log_graph(SanityPanel(4, lambda d_in: TopK(d_in, k=1, d_sae=8), seeds=[0]))
    logger.log_histogram(LoggedName.of("val", "cosine", Member("trained", 0)), torch.linspace(0.9, 1, 100), 2)
    logger.finalize("success")
    run = tmp_path / "demo" / "version_0"
    made = sorted((folder for folder in run.iterdir() if folder.is_dir()), key=first_event)
    names = ["P01_trained", "P02_frozen_decoder", "P03_soft_frozen_decoder", "P04_frozen_encoder", "floor", "trained-0"]
    assert [folder.name for folder in made] == names, "TensorBoard gives colours in this order"
    (drawn,) = EventAccumulator(str(run / "trained-0")).Reload().Histograms("val/cosine")
    assert sum(count > 0 for count in drawn.histogram_value.bucket) == 40


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("before", ["P1_trained", "P01_trained"])
def test_a_resumed_run_goes_on_with_its_curves_also_where_an_older_version_named_them(tmp_path: Path, before):
    (tmp_path / "demo/version_0" / before).mkdir(parents=True)
    logger = MemberTensorBoardLogger(str(tmp_path), name="demo", version=0)
    logger.log_metrics({"val/fvu/trained/0": 0.5, "val/fvu/frozen_trained/0": 0.6}, 1)
    logger.finalize("success")
    made = {folder.name for folder in (tmp_path / "demo/version_0").iterdir() if folder.is_dir()}
    assert made == {before, "P02_frozen_trained", "floor"}
    assert tags(tmp_path / "demo/version_0" / before) == {"val/fvu"}


def first_event(folder: Path) -> float:
    return EventAccumulator(str(folder)).Reload().FirstEventTimestamp()
