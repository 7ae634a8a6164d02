"""The flag of ``Interrupt``; that a real run stops and goes on is tested in test_cli.py."""

import signal
from typing import Any
from unittest.mock import MagicMock

import pytest
from lightning.pytorch import LightningModule, Trainer

from sae_lightning.callbacks import Interrupt


def trainer(**state: Any) -> Trainer:
    """What ``Interrupt`` looks at of a trainer, keeping no files."""
    state = {"accumulate_grad_batches": 1, "is_last_batch": False, "world_size": 1, "loggers": []} | state
    return MagicMock(spec=Trainer, **state)


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
    monkeypatch.setattr("sae_lightning.callbacks.interrupt.all_gather_int", lambda value: [value, int(signal.SIGTERM)])
    with pytest.raises(SystemExit) as stop:
        end_of_batch(interrupt, 0, world_size=2)
    assert stop.value.code == 128 + signal.SIGTERM


def test_handlers_are_given_back(interrupt: Interrupt):
    assert signal.getsignal(signal.SIGTERM) == interrupt._note
    interrupt.on_train_end(trainer(), LightningModule())
    assert signal.getsignal(signal.SIGTERM) != interrupt._note
