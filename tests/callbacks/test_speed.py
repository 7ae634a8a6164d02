"""How fast a run is and how long it still takes, on a clock that the test moves."""

from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from sae_lightning.callbacks import speed as module
from sae_lightning.callbacks.speed import Speed


def test_speed_without_the_first_step_and_validations(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    logged: dict = {}
    logger = SimpleNamespace(log_metrics=lambda values, step: logged.update({step: values}))
    trainer, sae = Mock(spec=Trainer), Mock(spec=LightningModule)
    trainer.configure_mock(
        accumulate_grad_batches=1, log_every_n_steps=3, global_step=0, estimated_stepping_batches=10,
        val_check_batch=5, datamodule=None, world_size=4, loggers=[logger], sanity_checking=False,
        state=SimpleNamespace(fn=TrainerFn.FITTING),
    )  # fmt: skip
    speed = Speed()
    speed.on_train_start(trainer, sae)
    for step, seconds in enumerate((100.0, 2.0, 2.0, 2.0, 2.0)):  # the buffer fills in the first
        assert speed.per_second is None or speed.per_second == 2.0
        now[0] += seconds
        trainer.global_step = step + 1
        speed.on_train_batch_end(trainer, sae, None, None, step)
    assert speed.per_second == 4 / 2.0
    assert logged == {3: {"train/samples_per_second": 2.0}}
    assert speed.seconds_left(trainer) == 5 * 2.0
    speed.on_validation_start(trainer, sae)
    now[0] += 30.0
    speed.on_validation_end(trainer, sae)
    assert speed.per_second == 2.0
    assert speed.seconds_left(trainer) == 5 * 2.0 + 30.0, "one validation of five batches is left"
    now[0] += 2.0
    trainer.global_step = 6
    speed.on_train_batch_end(trainer, sae, None, None, 5)
    assert speed.per_second == 2.0, "the validation is no part of a step"
    trainer.estimated_stepping_batches = float("inf")
    assert speed.seconds_left(trainer) is None
