"""Which experiments stand in one curve."""

from pathlib import Path

import pytest
from runs.folders import SAE, changed, panel, values, write

from sae_lightning.runs import Experiment, read_runs
from sae_lightning.runs.series import FREEDOM, LENGTH, SPARSITY, VARIANT, Axis, alike_but_for, differ_along

RELU = {"class_path": "sae_lightning.saes.ReLU", "init_args": {"init": None, "seed": 0, "l1_coefficient": 0.01}}
SOFT = {"soft_frozen_decoder": {"class_path": "SoftFrozenDecoder", "init_args": {"min_cosine": 0.5}}}
OTHER_SOFT = {"soft_frozen_decoder": {"class_path": "SoftFrozenDecoder", "init_args": {"min_cosine": 0.9}}}


def experiments(tmp_path: Path, *settings: dict) -> list[Experiment]:
    folders = [write(tmp_path / f"{i}", own, {"ev": values(0)}) for i, own in enumerate(settings)]
    return [Experiment([run], run.folder.name) for run in read_runs(folders)]


@pytest.mark.parametrize(
    ("axis", "option", "value", "is_together", "is_apart"),
    [
        (SPARSITY, "model.sae.k", 4, True, True),
        (SPARSITY, "model.learning_rates", {"trained": 0.1}, True, False),  # follows, and is no sparsity
        (SPARSITY, "model.sae.optimizer.lr", 0.1, True, False),
        (SPARSITY, "model.sae.d_sae", 16, False, False),
        (SPARSITY, "model.sae", RELU, False, False),
        (VARIANT, "model.sae", RELU, True, True),
        (VARIANT, "model.sae.k", 4, True, True),
        (VARIANT, "model.sae.d_sae", 16, False, False),
        (VARIANT, "model.sae.optimizer.lr", 0.1, True, False),
        (VARIANT, "data.train_samples", 99, False, False),
        (LENGTH, "data.train_samples", 99, True, True),
        (LENGTH, "trainer.max_steps", 99, True, True),
        (LENGTH, "data.batch_size", 99, False, False),
        (LENGTH, "model.sae.k", 4, False, False),
        (FREEDOM, "model.policies", OTHER_SOFT, True, True),
        (FREEDOM, "model.sae.k", 4, False, False),
    ],
)
def test_runs_that_differ_in_one_option(
    axis: Axis, option: str, value: object, is_together: bool, is_apart: bool, tmp_path: Path
):
    one = panel(policies=SOFT) if axis is FREEDOM else panel()
    both = experiments(tmp_path, one, changed(one, option, value))
    groups = alike_but_for(both, axis)
    assert [len(group) for group in groups] == ([2] if is_together else [1, 1])
    assert differ_along(groups[0], axis) == is_apart


def test_a_run_without_settings_is_in_no_curve(tmp_path: Path):
    both = experiments(tmp_path, panel(), changed(panel(), "model.sae.k", 4))
    (both[1].runs[0].folder / "config.yaml").unlink()
    assert alike_but_for(both, SPARSITY) == [[both[0]]]


def test_those_in_one_curve_need_not_stand_together(tmp_path: Path):
    settings = [panel(), panel(sae=RELU), changed(panel(), "model.sae.k", 4)]
    first, relu, third = experiments(tmp_path, *settings)
    assert alike_but_for([first, relu, third], SPARSITY) == [[first, third], [relu]]
    assert SAE["init_args"]["k"] == 2
