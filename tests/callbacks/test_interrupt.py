"""The flag of ``Interrupt``; that a real run stops and goes on is tested in commands/test_fit.py."""

import signal
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from training import D_IN, Stream

from sae_lightning.callbacks import Interrupt
from sae_lightning.datamodules import ActivationDataModule
from sae_lightning.saes import TopK


def trainer(**state: Any) -> Trainer:
    """What ``Interrupt`` looks at of a trainer, keeping no files."""
    state = {
        "accumulate_grad_batches": 1,
        "is_last_batch": False,
        "world_size": 1,
        "loggers": [],
        "datamodule": MagicMock(),
        "fit_loop": fit_loop(validation_is_due=False),
    } | state
    return MagicMock(spec=Trainer, **state)


def fit_loop(validation_is_due: bool) -> MagicMock:
    loop = MagicMock()
    loop.epoch_loop._should_check_val_fx.return_value = validation_is_due
    return loop


def end_of_batch(interrupt: Interrupt, batch_idx: int, **state: Any) -> None:
    interrupt.on_train_batch_end(trainer(**state), LightningModule(), None, None, batch_idx)


@pytest.fixture
def interrupt():
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    callback = Interrupt()
    callback.on_train_start(trainer(), LightningModule())
    yield callback
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stops_after_the_step_with_the_code_of_the_signal(interrupt: Interrupt, number: int):
    end_of_batch(interrupt, 0)
    signal.raise_signal(number)
    with pytest.raises(SystemExit) as stop:
        end_of_batch(interrupt, 1)
    assert stop.value.code == 128 + number


def test_waits_for_the_end_of_an_accumulated_step(interrupt: Interrupt):
    signal.raise_signal(signal.SIGINT)
    end_of_batch(interrupt, 0, accumulate_grad_batches=2)
    with pytest.raises(SystemExit):
        end_of_batch(interrupt, 1, accumulate_grad_batches=2)


def test_lets_a_run_end_that_is_at_its_end(interrupt: Interrupt):
    signal.raise_signal(signal.SIGINT)
    end_of_batch(interrupt, 0, is_last_batch=True)


def test_the_second_signal_stops_at_once(interrupt: Interrupt):
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_one_rank_stops_all(interrupt: Interrupt, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "sae_lightning.callbacks.interrupt.all_gather_int", lambda code, ranks: [code, 128 + signal.SIGTERM]
    )
    with pytest.raises(SystemExit) as stop:
        end_of_batch(interrupt, 0)
    assert stop.value.code == 128 + signal.SIGTERM


def test_a_validation_that_is_due_comes_before_the_checkpoint(interrupt: Interrupt):
    signal.raise_signal(signal.SIGINT)
    end_of_batch(interrupt, 0, fit_loop=fit_loop(validation_is_due=True))
    with pytest.raises(SystemExit):
        interrupt.on_validation_end(trainer(), LightningModule())


def test_a_missing_batch_stops_the_run_with_code_1(interrupt: Interrupt, capsys: pytest.CaptureFixture[str]):
    data = MagicMock(spec=ActivationDataModule)
    end_of_batch(interrupt, 0, datamodule=data)
    data.prepare_batch.side_effect = ValueError("the text is gone")
    end_of_batch(interrupt, 0, datamodule=data, is_last_batch=True)
    with pytest.raises(SystemExit) as stop:
        end_of_batch(interrupt, 1, datamodule=data, global_rank=3)
    assert stop.value.code == 1
    assert "rank 3: the text is gone" in capsys.readouterr().err


def test_data_without_a_datamodule_of_ours_go_on(interrupt: Interrupt):
    end_of_batch(interrupt, 0, datamodule=None)


def test_handlers_are_given_back(interrupt: Interrupt):
    assert signal.getsignal(signal.SIGTERM) == interrupt._note
    interrupt.on_train_end(trainer(), LightningModule())
    assert signal.getsignal(signal.SIGTERM) != interrupt._note


def test_what_trains_nothing_is_ended_by_sigterm(tmp_path: Path):
    handlers: list[Any] = []

    class Look(Callback):
        def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            handlers.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[Interrupt(), Look()],
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.validate(TopK(D_IN, d_sae=16, k=2), datamodule=Stream(), verbose=False)
    assert handlers == [signal.SIG_DFL]
    assert signal.getsignal(signal.SIGTERM) == before
